// Scalar conversions between the floating types of checkpoints.
#include "loraine/core/dtype.h"

#include <string>

#include "loraine/core/error.h"

namespace loraine {

const char* name_of(Dtype dtype) {
  static constexpr const char* kNames[] = {"F32",   "F16",   "BF16",    "F64",    "I64",   "I32",     "I16",   "I8",     "U8",     "BOOL",
                                           "Q4_0",  "Q4_1",  "Q5_0",    "Q5_1",   "Q8_0",  "Q4_K",    "Q5_K",  "Q6_K",   "Q2_K",   "Q3_K",
                                           "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0",
                                           "TQ2_0", "MXFP4", "NF4",     "FP4",    "MXFP4", "INT8",    "AQLM",  "AQLM",   "INT1",   "INT2",
                                           "INT3",  "INT4",  "INT8",    "INT8",   "FP8",   "E2M1"};
  return kNames[static_cast<int>(dtype)];
}

void no_element_size(Dtype dtype) { throw Error(ErrorKind::internal, std::string(name_of(dtype)) + " has no size of one element"); }

float f16_to_f32(f16 h) {
  uint32_t sign = static_cast<uint32_t>(h & 0x8000u) << 16, exponent = (h >> 10) & 0x1fu, fraction = h & 0x3ffu;
  if (exponent == 0) {
    float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

f16 f32_to_f16(float x) {
  uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<f16>(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return static_cast<f16>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal: let the float adder round
    float scaled = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<f16>(sign | (std::bit_cast<uint32_t>(scaled) - 0x3f000000u));
  }
  uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<f16>(sign | ((rounded - 0x38000000u) >> 13));
}

namespace {
float load(const void* in, Dtype dtype, int64_t i) {
  switch (dtype) {
    case Dtype::F32: return static_cast<const float*>(in)[i];
    case Dtype::F16: return f16_to_f32(static_cast<const f16*>(in)[i]);
    case Dtype::BF16: return bf16_to_f32(static_cast<const bf16*>(in)[i]);
    case Dtype::F64: return static_cast<float>(static_cast<const double*>(in)[i]);
    default: throw Error(ErrorKind::unsupported, std::string("no conversion from ") + name_of(dtype) + " to a floating type");
  }
}
}  // namespace

void convert(void* out, Dtype out_dtype, const void* in, Dtype in_dtype, int64_t n) {
  if (out_dtype == in_dtype) {
    std::memcpy(out, in, static_cast<size_t>(n) * size_of(in_dtype));
    return;
  }
  if (out_dtype == Dtype::F32 && in_dtype == Dtype::BF16) {
    for (int64_t i = 0; i < n; ++i) static_cast<float*>(out)[i] = bf16_to_f32(static_cast<const bf16*>(in)[i]);
    return;
  }
  for (int64_t i = 0; i < n; ++i) {
    float x = load(in, in_dtype, i);
    switch (out_dtype) {
      case Dtype::F32: static_cast<float*>(out)[i] = x; break;
      case Dtype::F16: static_cast<f16*>(out)[i] = f32_to_f16(x); break;
      case Dtype::BF16: static_cast<bf16*>(out)[i] = f32_to_bf16(x); break;
      default: throw Error(ErrorKind::unsupported, std::string("no conversion to ") + name_of(out_dtype));
    }
  }
}

}  // namespace loraine
