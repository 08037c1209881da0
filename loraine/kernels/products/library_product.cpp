// Primitives are made once per thread and shape, for one thread each, so that K is never split by the number of threads. Sizes that depend
// on the number of tokens come in any value: those that are no multiple of 64 share one primitive whose sizes are given when it runs, a
// little slower, so that the number of primitives stays bounded. Which one serves depends on the shape alone. Products of int8 come in few
// sizes, and each has its own.
#include "loraine/kernels/products/library_product.h"

#include <fmt/format.h>
#include <omp.h>

#include <dnnl.hpp>
#include <map>

#include "loraine/core/error.h"

namespace loraine {
namespace {

using dnnl::memory;

struct Key {
  Dtype type, y_type;  // of x and w; of y
  bool x_t, w_t, add;
  float alpha;
  int64_t m, n, k, x_stride, w_stride, y_stride;  // DNNL_RUNTIME_DIM_VAL when given later
  auto operator<=>(const Key&) const = default;
};

struct Product {
  dnnl::matmul matmul;
  memory x, w, y, scratchpad;  // without data; x, w and y anew for every run where sizes are given then
  size_t scratchpad_bytes;
};

struct ThreadProducts {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Key, Product> made;
  Buffer scratchpad;
};

memory::desc operand(int64_t rows, int64_t cols, memory::data_type type, int64_t stride, bool transposed) {
  return memory::desc({rows, cols}, type, transposed ? memory::dims{1, stride} : memory::dims{stride, 1});
}

struct Descriptions {
  memory::desc x, w, y;
};
memory::data_type library_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::F32: return memory::data_type::f32;
    case Dtype::BF16: return memory::data_type::bf16;
    case Dtype::I32: return memory::data_type::s32;
    case Dtype::I8: return memory::data_type::s8;
    default: throw Error(ErrorKind::internal, fmt::format("matmul: no product of oneDNN has {}", name_of(dtype)));
  }
}
Descriptions describe(const Key& key) {
  const memory::data_type type = library_type(key.type);
  return {operand(key.m, key.k, type, key.x_stride, key.x_t), operand(key.k, key.n, type, key.w_stride, key.w_t),
          operand(key.m, key.n, library_type(key.y_type), key.y_stride, false)};
}

Product make_product(const dnnl::engine& engine, const Key& key) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (key.alpha != 1) attributes.set_output_scales(0, {key.alpha});
  if (key.add) {
    dnnl::post_ops sum;
    sum.append_sum(1.0f);
    attributes.set_post_ops(sum);
  }
  const Descriptions d = describe(key);
  dnnl::matmul::primitive_desc pd(dnnl::matmul::desc(d.x, d.w, d.y), attributes, engine);
  return {dnnl::matmul(pd), {}, {}, {}, memory(pd.scratchpad_desc(), engine, nullptr), pd.scratchpad_desc().get_size() + 64};
}

// Ranks and the like are small multiples of 8; tiles and widths of a model are multiples of 64.
bool steady(int64_t size) { return size % 64 == 0 || (size < 64 && size % 8 == 0); }

void* grown(Buffer& buffer, size_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(bytes);
  return buffer.data();
}

void run(const Tensor& y, const Tensor& x, const Tensor& w, const Key& exact) {
  thread_local ThreadProducts mine;
  Key key = exact;
  const bool fixed = key.type == Dtype::I8 || (steady(key.m) && steady(key.n) && steady(key.k));
  if (!fixed) key.m = key.n = key.k = key.x_stride = key.w_stride = key.y_stride = DNNL_RUNTIME_DIM_VAL;
  auto at = mine.made.find(key);
  if (at == mine.made.end()) at = mine.made.emplace(key, make_product(mine.engine, key)).first;
  Product& product = at->second;
  if (!fixed || !product.x) {
    const Descriptions d = describe(exact);
    product.x = memory(d.x, mine.engine, nullptr);
    product.w = memory(d.w, mine.engine, nullptr);
    product.y = memory(d.y, mine.engine, nullptr);
  }
  product.x.set_data_handle(x.data);
  product.w.set_data_handle(w.data);
  product.y.set_data_handle(y.data);
  product.scratchpad.set_data_handle(grown(mine.scratchpad, product.scratchpad_bytes));
  // The C++ call would fill a hash map first, which small tiles feel.
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, product.x.get()},
                                       {DNNL_ARG_WEIGHTS, product.w.get()},
                                       {DNNL_ARG_DST, product.y.get()},
                                       {DNNL_ARG_SCRATCHPAD, product.scratchpad.get()}};
  dnnl::error::wrap_c_api(dnnl_primitive_execute(product.matmul.get(), mine.stream.get(), 4, arguments), "could not multiply");
}

// oneDNN is held to the calling thread.
void run_alone(const Tensor& y, const Tensor& x, const Tensor& w, const Key& key) {
  const int threads = omp_get_max_threads();
  omp_set_num_threads(1);
  try {
    run(y, x, w, key);
  } catch (const dnnl::error& e) {
    omp_set_num_threads(threads);
    throw Error(ErrorKind::internal,
                fmt::format("matmul: oneDNN refused the {} product {}×{}×{}: {}", name_of(key.type), key.m, key.n, key.k, e.what()));
  }
  omp_set_num_threads(threads);
}

}  // namespace

void bf16_tile(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, float alpha, bool add) {
  const int64_t k = x_t ? x.rows() : x.cols();
  run_alone(y, x, w, {Dtype::BF16, y.dtype, x_t, w_t, add, alpha, y.rows(), y.cols(), k, x.row_stride, w.row_stride, y.row_stride});
}

void int8_tile(const Tensor& y, const Tensor& x, const Tensor& w, bool w_t) {
  run_alone(y, x, w, {Dtype::I8, Dtype::I32, false, w_t, false, 1, y.rows(), y.cols(), x.cols(), x.row_stride, w.row_stride, y.row_stride});
}

}  // namespace loraine
