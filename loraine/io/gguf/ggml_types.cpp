// ggml's numbers of the element types.
#include "loraine/io/gguf/gguf.h"

namespace loraine {
namespace {

constexpr GgmlType kTypes[] = {
    {0, "F32", 1, 4, Dtype::F32},
    {1, "F16", 1, 2, Dtype::F16},
    {2, "Q4_0", 32, 18, Dtype::Q4_0},
    {3, "Q4_1", 32, 20, Dtype::Q4_1},
    {6, "Q5_0", 32, 22, Dtype::Q5_0},
    {7, "Q5_1", 32, 24, Dtype::Q5_1},
    {8, "Q8_0", 32, 34, Dtype::Q8_0},
    {9, "Q8_1", 32, 36, {}},
    {10, "Q2_K", 256, 84, {}},
    {11, "Q3_K", 256, 110, {}},
    {12, "Q4_K", 256, 144, Dtype::Q4_K},
    {13, "Q5_K", 256, 176, Dtype::Q5_K},
    {14, "Q6_K", 256, 210, Dtype::Q6_K},
    {15, "Q8_K", 256, 292, {}},
    {24, "I8", 1, 1, {}},
    {25, "I16", 1, 2, {}},
    {26, "I32", 1, 4, {}},
    {27, "I64", 1, 8, {}},
    {28, "F64", 1, 8, {}},
    {30, "BF16", 1, 2, Dtype::BF16},
    {39, "MXFP4", 32, 17, {}},
};

}  // namespace

const GgmlType* ggml_type(uint32_t number) {
  for (const GgmlType& type : kTypes)
    if (type.number == number) return &type;
  return nullptr;
}

}  // namespace loraine
