// Tells whether two folders or files hold the same weights, without reading them whole. Called where an adapter is written and loaded.
#pragma once
#include <string>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// Of the names, the shapes and a few numbers out of the middle of every matrix: alike for the same model however it is split into files and
// in whichever wider type it is stored (BF16 as F32), different as soon as training or merging has touched it. 32 hexadecimal digits. Empty
// where a matrix is packed (GGUF's blocks, quantised checkpoints): its numbers are no longer those it was made of.
std::string weights_fingerprint(const TensorSource& tensors);

}  // namespace loraine
