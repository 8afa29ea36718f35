"""The ground: visibility rules, attention kernels, positions, activations, packing."""
