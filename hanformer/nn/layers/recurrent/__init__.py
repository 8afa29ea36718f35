"""Recurrent layers: cells, their fast forms, and stacks with the regularisation of AWD-LSTM. 循环层。"""
