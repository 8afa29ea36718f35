"""What the posts prove, as numbers that can be computed. 理论：文章中的结论，化为可计算的量。"""
