// Instruction set as oneDNN sees it, and its own products timed.
#include "loraine/kernels/base/machine.h"

#include <dnnl.h>
#include <time.h>

#include <chrono>
#include <dnnl.hpp>
#include <vector>

#include "loraine/core/dtype.h"
#include "loraine/core/error.h"
#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/products/int8_products.h"
#include "loraine/kernels/products/library_product.h"
#include "loraine/kernels/products/sgemm.h"

namespace loraine {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class Work>
ProductTime timed(Work&& work) {
  double wall = now(), cpu = process_cpu_seconds();
  work();
  return {now() - wall, process_cpu_seconds() - cpu};
}

LORAINE_CLONES uint64_t add_up(const uint64_t* x, int64_t n) {
  uint64_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

// Both operands in that type, w packed beforehand.
ProductTime time_packed_product(int64_t M, int64_t N, int64_t K, bool nn, Dtype type) {
  using dnnl::memory;
  const bool int8 = type == Dtype::I8;
  const memory::data_type in = int8 ? memory::data_type::s8 : memory::data_type::bf16,
                          out = int8 ? memory::data_type::s32 : memory::data_type::f32;
  dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  memory::desc x_desc({M, K}, in, memory::format_tag::ab), y_desc({M, N}, out, memory::format_tag::ab);
  memory::desc any({K, N}, in, memory::format_tag::any);
  dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(x_desc, any, y_desc), engine);
  memory x(x_desc, engine), y(y_desc, engine), packed(pd.weights_desc(), engine);
  memory plain({{K, N}, in, nn ? memory::format_tag::ab : memory::format_tag::ba}, engine);
  if (int8) {
    std::fill_n(static_cast<int8_t*>(x.get_data_handle()), M * K, int8_t{1});
    std::fill_n(static_cast<int8_t*>(plain.get_data_handle()), N * K, int8_t{2});
  } else {
    std::fill_n(static_cast<bf16*>(x.get_data_handle()), M * K, f32_to_bf16(0.1f));
    std::fill_n(static_cast<bf16*>(plain.get_data_handle()), N * K, f32_to_bf16(0.2f));
  }
  dnnl::reorder(plain, packed).execute(stream, plain, packed);
  dnnl::matmul product(pd);
  auto run = [&] {
    product.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, packed}, {DNNL_ARG_DST, y}});
    stream.wait();
  };
  run();
  return timed(run);
}

}  // namespace

double process_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::string instruction_set() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx512_core_amx: return "AVX-512 BF16, AMX";
    case dnnl_cpu_isa_avx512_core_bf16: return "AVX-512 BF16";
    case dnnl_cpu_isa_avx512_core_vnni: return "AVX-512 VNNI";
    case dnnl_cpu_isa_avx512_core: return "AVX-512";
    case dnnl_cpu_isa_avx2_vnni: return "AVX2 VNNI";
    case dnnl_cpu_isa_avx2: return "AVX2";
    case dnnl_cpu_isa_avx: return "AVX";
    case dnnl_cpu_isa_sse41: return "SSE4.1";
    default: return "other";
  }
}

bool has_bf16_instructions() {
  dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  return isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
}

bool has_bf16_products() {
  if (dnnl_get_effective_cpu_isa() == dnnl_cpu_isa_avx512_core_amx) return true;
#if defined(__x86_64__)
  return has_bf16_instructions() && !__builtin_cpu_is("intel");
#else
  return false;
#endif
}

bool has_int8_products() {
  dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
  return isa == dnnl_cpu_isa_avx512_core_vnni || isa == dnnl_cpu_isa_avx512_core_bf16 || isa == dnnl_cpu_isa_avx512_core_amx;
}

void warm_up_products(bool bf16) {
  constexpr int64_t kSize = 8;
  float x[kSize * kSize] = {}, y[kSize * kSize];
  loraine::bf16 narrow[kSize * kSize] = {};
  const Tensor out(y, Dtype::F32, {kSize, kSize}), in(narrow, Dtype::BF16, {kSize, kSize});
  for (bool x_t : {false, true})
    for (bool w_t : {false, true}) {
      sgemm_tile(x_t, w_t, kSize, kSize, kSize, 1, x, kSize, x, kSize, 0, y, kSize);
      if (bf16 && has_bf16_products()) bf16_tile(out, in, in, x_t, w_t, 1, false);
    }
}

ProductTime time_library_product(int64_t M, int64_t N, int64_t K, bool nn, Dtype type) {
  if (type != Dtype::F32) return time_packed_product(M, N, K, nn, type);
  std::vector<float> x(static_cast<size_t>(M * K), 0.1f), w(static_cast<size_t>(N * K), 0.2f), y(static_cast<size_t>(M * N));
  auto run = [&] {
    dnnl_status_t status = dnnl_sgemm('N', nn ? 'N' : 'T', M, N, K, 1, x.data(), K, w.data(), nn ? N : K, 0, y.data(), N);
    if (status != dnnl_success) throw Error(ErrorKind::internal, "time_library_product: oneDNN refused the product");
  };
  run();
  return timed(run);
}

ProductTime time_plain_read(std::span<const std::pair<const void*, int64_t>> pieces) {
  constexpr int64_t kBlock = 1 << 17;  // words
  std::vector<std::pair<const uint64_t*, int64_t>> blocks;
  for (const auto& [data, bytes] : pieces) {
    for (int64_t at = 0; at < bytes / 8; at += kBlock)
      blocks.push_back({static_cast<const uint64_t*>(data) + at, std::min(kBlock, bytes / 8 - at)});
  }
  std::vector<uint64_t> sums(blocks.size());
  ProductTime t = timed([&] {
    parallel_for(static_cast<int64_t>(blocks.size()), [&](int64_t b) {
      size_t i = static_cast<size_t>(b);
      sums[i] = add_up(blocks[i].first, blocks[i].second);
    });
  });
  volatile uint64_t keep = 0;
  for (uint64_t s : sums) keep = keep + s;
  return t;
}

}  // namespace loraine
