"""Benchmarks: one file a hot path, a peer beside ours in one process. 基准测试：每条热路径一个文件。"""
