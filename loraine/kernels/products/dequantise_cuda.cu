// Quantised weights to F32 or BF16 on the GPU, eight elements a thread, with the bits that the CPU gives them (core/quant_state.cpp): a
// nested scale is rounded twice, and values go through the type they are kept in.
#include "loraine/core/error.h"
#include "loraine/kernels/cuda/device.h"
#include "loraine/kernels/products/products_cuda.h"

namespace loraine::cuda {
namespace {

constexpr int kCodeThreads = 256;

struct Maps {
  float map[16], nested[256];
};

__device__ __forceinline__ float kept(float x, Dtype values) {
  if (values == Dtype::BF16) return round_to(x, Bf16{});
  return values == Dtype::F16 ? half_to_float(float_to_half(x)) : x;
}

__device__ __forceinline__ float scale_of(const QuantState& q, const Maps& maps, int64_t block) {
  if (q.absmax) return q.absmax[block];
  return maps.nested[q.absmax_codes[block]] * q.nested_absmax[block / q.nested_blocksize] + q.offset;
}

// E2M1: a sign, two bits of exponent, one of mantissa
__device__ __forceinline__ float mxfp4_value(uint32_t code) {
  const uint32_t exponent = code >> 1 & 3, mantissa = code & 1;
  const float size = exponent == 0 ? 0.5f * static_cast<float>(mantissa)
                                   : (1.0f + 0.5f * static_cast<float>(mantissa)) * static_cast<float>(1u << (exponent - 1));
  return code & 8 ? -size : size;
}

// Two codes a byte. NF4 and FP4 have the first one in the high half, MXFP4 in the low one.
template <class T>
__global__ void __launch_bounds__(kCodeThreads)
    dequantise_codes_kernel(T* out, const uint8_t* codes, QuantState q, bool microscaled, int64_t first, int64_t n) {
  Maps& maps = shared<Maps>();
  if (!microscaled) {
    if (!q.absmax) maps.nested[threadIdx.x] = q.nested_map[threadIdx.x];
    if (threadIdx.x < 16) maps.map[threadIdx.x] = q.map[threadIdx.x];
  }
  __syncthreads();
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kCodeThreads + threadIdx.x) * 8;
  float scale = 0;
  for (int64_t i = begin; i < begin + 8 && i < n; ++i) {
    const int64_t at = first + i;
    const uint32_t pair = codes[at / 2];
    if (microscaled) {
      const uint32_t exponent = q.exponents[at / 32];
      const float power = bits_to_float(exponent == 0 ? 0x00400000u : exponent << 23);
      from_float(out[i], mxfp4_value(at % 2 ? pair >> 4 : pair & 15) * power);
      continue;
    }
    if (i == begin || at % q.blocksize == 0) scale = scale_of(q, maps, at / q.blocksize);
    from_float(out[i], kept(maps.map[at % 2 ? pair & 15 : pair >> 4] * scale, q.values));
  }
}

template <class T>
__global__ void __launch_bounds__(kCodeThreads)
    dequantise_int8_kernel(T* out, const int8_t* codes, QuantState q, int64_t first, int64_t n) {
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) * kCodeThreads + threadIdx.x) * 8;
  for (int64_t i = begin; i < begin + 8 && i < n; ++i) {
    const int64_t at = first + i;
    from_float(out[i], kept(static_cast<float>(codes[at]) * (q.row_absmax[at / q.cols] * (1.0f / 127.0f)), q.values));
  }
}

}  // namespace
}  // namespace loraine::cuda

namespace loraine {

using namespace cuda;

void dequantise_cuda(GpuStream& stream, const Tensor& out, Dtype type, const QuantState& state, int64_t first) {
  const unsigned blocks = static_cast<unsigned>((out.numel() + kCodeThreads * 8 - 1) / (kCodeThreads * 8));
  stream.moves(bytes_in(out) + static_cast<double>(bytes_of(type, out.numel())));
  with_type(out, [&]<class T>(T) {
    T* to = static_cast<T*>(out.data);
    if (type == Dtype::INT8)
      return launch("dequantise_int8", dequantise_int8_kernel<T>, blocks, kCodeThreads, 0, stream, to,
                    static_cast<const int8_t*>(state.codes), state, first, out.numel());
    if (type != Dtype::NF4 && type != Dtype::FP4 && type != Dtype::MXFP4_CODES)
      throw Error(ErrorKind::unsupported, std::string("dequantise: ") + name_of(type) + " has no GPU code; NF4, FP4, INT8 and MXFP4 have",
                  "Run on the CPU (device: cpu).");
    launch("dequantise_codes", dequantise_codes_kernel<T>, blocks, kCodeThreads, sizeof(Maps), stream, to,
           static_cast<const uint8_t*>(state.codes), state, type == Dtype::MXFP4_CODES, first, out.numel());
  });
}

}  // namespace loraine
