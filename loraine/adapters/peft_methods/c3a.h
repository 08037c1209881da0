// C3A (Chen et al. 2024): y = W x + b + (1 / in) C x, C of circulant blocks of b rows, each made of one trained row: the kernel
// [out / b, in / b, b]. Its products go by Fourier's transform (kernels/structured/circulant). The kernel starts as init_weights says:
// xavier_uniform (PEFT's default), kaiming_uniform, gaussian; true: at 0.
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_c3a(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
