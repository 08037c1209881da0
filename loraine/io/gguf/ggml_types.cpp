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
    {10, "Q2_K", 256, 84, Dtype::Q2_K},
    {11, "Q3_K", 256, 110, Dtype::Q3_K},
    {12, "Q4_K", 256, 144, Dtype::Q4_K},
    {13, "Q5_K", 256, 176, Dtype::Q5_K},
    {14, "Q6_K", 256, 210, Dtype::Q6_K},
    {15, "Q8_K", 256, 292, {}},
    {16, "IQ2_XXS", 256, 66, Dtype::IQ2_XXS},
    {17, "IQ2_XS", 256, 74, Dtype::IQ2_XS},
    {18, "IQ3_XXS", 256, 98, Dtype::IQ3_XXS},
    {19, "IQ1_S", 256, 50, Dtype::IQ1_S},
    {20, "IQ4_NL", 32, 18, Dtype::IQ4_NL},
    {21, "IQ3_S", 256, 110, Dtype::IQ3_S},
    {22, "IQ2_S", 256, 82, Dtype::IQ2_S},
    {23, "IQ4_XS", 256, 136, Dtype::IQ4_XS},
    {24, "I8", 1, 1, {}},
    {25, "I16", 1, 2, {}},
    {26, "I32", 1, 4, {}},
    {27, "I64", 1, 8, {}},
    {28, "F64", 1, 8, {}},
    {29, "IQ1_M", 256, 56, Dtype::IQ1_M},
    {30, "BF16", 1, 2, Dtype::BF16},
    {34, "TQ1_0", 256, 54, Dtype::TQ1_0},
    {35, "TQ2_0", 256, 66, Dtype::TQ2_0},
    {39, "MXFP4", 32, 17, Dtype::MXFP4},
    {40, "NVFP4", 64, 36, {}},
};

}  // namespace

const GgmlType* ggml_type(uint32_t number) {
  for (const GgmlType& type : kTypes)
    if (type.number == number) return &type;
  return nullptr;
}

}  // namespace loraine
