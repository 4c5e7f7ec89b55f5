"""What runs the networks: one description of each, several engines behind one protocol.

``segformer`` and ``chipnet`` describe the two networks in the words of ``ops.Ops``; ``torch_ops``
computes them at once (CPU or CUDA), ``openvino_ops`` writes them down as a graph that OpenVINO
compiles. ``choose`` decides which of these a process uses, ``engines`` are what the models hold.
"""
