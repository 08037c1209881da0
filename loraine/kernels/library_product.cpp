// Primitives are made once per thread and shape, for one thread each, so that K is never split by the number of threads.
#include "loraine/kernels/library_product.h"

#include <omp.h>

#include <dnnl.hpp>
#include <map>

#include "loraine/kernels/row_dots.h"

namespace loraine {
namespace {

using dnnl::memory;

struct Key {
  Dtype type;
  bool add;
  int64_t m, n, k, x_stride, w_k_stride, w_n_stride, y_stride;
  auto operator<=>(const Key&) const = default;
};

struct Product {
  dnnl::matmul matmul;
  memory x, w, y, scratchpad;
  bool exists = false;
};

struct ThreadProducts {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Key, Product> made;
  Buffer scratchpad, narrowed;
};

Product make_product(const dnnl::engine& engine, const Key& key) {
  auto type = key.type == Dtype::BF16 ? memory::data_type::bf16 : memory::data_type::f32;
  memory::desc x({key.m, key.k}, type, memory::dims{key.x_stride, 1}),
      w({key.k, key.n}, type, memory::dims{key.w_k_stride, key.w_n_stride}),
      y({key.m, key.n}, memory::data_type::f32, memory::dims{key.y_stride, 1});
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (key.add) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  Product product;
  int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  try {
    dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(x, w, y), attributes, engine);
    product.matmul = dnnl::matmul(pd);
    product.x = memory(x, engine, nullptr);
    product.w = memory(w, engine, nullptr);
    product.y = memory(y, engine, nullptr);
    product.scratchpad = memory(pd.scratchpad_desc(), engine, nullptr);
    product.exists = true;
  } catch (const dnnl::error&) {  // not implemented on this machine
  }
  omp_set_num_threads(threads);
  return product;
}

void* grown(Buffer& buffer, size_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(bytes);
  return buffer.data();
}

}  // namespace

bool library_tile(Dtype type, const Tensor& y, const Tensor& x, const Tensor& w, bool transposed, bool add) {
  thread_local ThreadProducts mine;
  int64_t m = y.rows(), n = y.cols(), k = x.cols();
  bool narrow = type == Dtype::BF16;
  Key key{type, add, m, n, k, narrow ? k : x.row_stride, transposed ? 1 : w.row_stride, transposed ? w.row_stride : 1, y.row_stride};
  auto at = mine.made.find(key);
  if (at == mine.made.end()) at = mine.made.emplace(key, make_product(mine.engine, key)).first;
  Product& product = at->second;
  if (!product.exists) return false;
  void* input = x.data;
  if (narrow) {
    input = grown(mine.narrowed, static_cast<size_t>(m * k) * sizeof(bf16));
    for (int64_t i = 0; i < m; ++i) narrow_row(static_cast<bf16*>(input) + i * k, x.f32() + i * x.row_stride, k);
  }
  product.x.set_data_handle(input);
  product.w.set_data_handle(w.data);
  product.y.set_data_handle(y.data);
  product.scratchpad.set_data_handle(grown(mine.scratchpad, product.scratchpad.get_desc().get_size() + 64));
  int threads = omp_get_max_threads();
  bool outside = !omp_in_parallel();
  if (outside) omp_set_num_threads(1);
  product.matmul.execute(
      mine.stream,
      {{DNNL_ARG_SRC, product.x}, {DNNL_ARG_WEIGHTS, product.w}, {DNNL_ARG_DST, product.y}, {DNNL_ARG_SCRATCHPAD, product.scratchpad}});
  mine.stream.wait();
  if (outside) omp_set_num_threads(threads);
  return true;
}

}  // namespace loraine
