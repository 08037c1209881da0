// Matrices that files hold as [in, out] (GPT-2's Conv1D), shown as [out, in]. Called by model/load, and by what writes them back.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// Whether `tensor` is the weight of a module whose path ends with one of `ends`: "h.0.attn.c_attn.weight" with "c_attn".
bool is_turned(const std::vector<std::string>& ends, const std::string& tensor);
// The source with those of its tensors that have two dimensions transposed; they are read, not mapped.
std::shared_ptr<TensorSource> turned_source(std::shared_ptr<TensorSource> source, std::vector<std::string> ends);
// to [n, m] = from [m, n] transposed; both contiguous, of one type that is not packed.
void turn(const Tensor& to, const Tensor& from);

}  // namespace loraine
