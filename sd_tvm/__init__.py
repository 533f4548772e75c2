"""sd-tvm: a TVM backend for networks in SmartDeal form."""
