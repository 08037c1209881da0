// Checks of attention and the choice of device.
#include "loraine/kernels/attention/attention.h"

#include "loraine/kernels/attention/attention_tiles.h"
#include "loraine/kernels/base/dispatch.h"

namespace loraine {

void attention_cpu(const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                   std::span<const Sequence> sequences, const AttentionShape& shape);
void attention_backward_cpu(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o, const Tensor& lse,
                            const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
                            const AttentionShape& shape, const Tensor& partial, float* d_sinks);

namespace {
void check(const char* op, const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
           const AttentionShape& shape) {
  check_op(shape.heads > 0 && shape.kv_heads > 0 && shape.head_dim > 0 && shape.heads % shape.kv_heads == 0 && shape.window >= 0, op,
           "heads must be a multiple of kv_heads, all positive");
  check_op(shape.softcap >= 0 && shape.value_dim >= 0 && shape.chunk >= 0, op, "softcap, value_dim and chunk must not be negative");
  check_activation(op, "q", q, q.rows(), shape.heads * shape.head_dim);
  check_activation(op, "o", o, q.rows(), shape.heads * shape.value_width());
  check_activation(op, "k", k, k.rows(), shape.kv_heads * shape.head_dim);
  check_activation(op, "v", v, k.rows(), shape.kv_heads * shape.value_width());
  check_op(k.dtype == q.dtype && v.dtype == q.dtype, op, "q, k and v must be of one type");
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = sequences[i];
    check_op(s.start >= 0 && s.length >= 0 && s.start <= q.rows() - s.length && s.kv_start >= 0 && s.kv_length >= s.length &&
                 (s.pages || s.kv_start <= k.rows() - (s.kv_length - s.shared())),
             op, "a sequence lies outside q or k, or has fewer keys than queries");
    check_op(s.parent < 0 ||
                 (s.parent < static_cast<int64_t>(i) && !s.pages && s.shared() <= sequences[static_cast<size_t>(s.parent)].kv_length &&
                  !sequences[static_cast<size_t>(s.parent)].pages),
             op, "a sequence shares more keys than its parent has, or has one that does not come before it");
    for (int64_t row = 0; s.pages && row < s.kv_length; row += kKvPage)
      check_op(s.kv_row(row) >= 0 && s.kv_row(row) <= k.rows() - kKvPage, op, "a page lies outside k");
  }
}

// Products over every pair of a query and a key that it sees, `of_keys` as wide as keys and `of_values` as wide as values; counted for a
// profile only.
OpWork attention_work(const Context& ctx, std::span<const Sequence> sequences, const AttentionShape& shape, int of_keys, int of_values) {
  if (!ctx.profile) return {};
  double pairs = 0;
  for (const Sequence& s : sequences)
    for (int64_t i = 0; i < s.length; ++i) {
      const Keys keys = keys_of(s, i, shape);
      pairs += static_cast<double>(keys.last - keys.first);
    }
  return {2.0 * pairs * static_cast<double>(shape.heads * (of_keys * shape.head_dim + of_values * shape.value_width()))};
}
}  // namespace

void attention(Context& ctx, const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
               std::span<const Sequence> sequences, const AttentionShape& shape) {
  check("attention", o, q, k, v, sequences, shape);
  if (lse.data) check_f32("attention", "lse", lse, q.rows(), shape.heads);
  dispatch(
      ctx, "attention", [&] { attention_cpu(o, lse, q, k, v, sequences, shape); }, attention_work(ctx, sequences, shape, 1, 1));
}

void attention_backward(Context& ctx, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o,
                        const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
                        const AttentionShape& shape, const Tensor& partial, float* d_sinks) {
  const char* op = "attention_backward";
  check(op, o, q, k, v, sequences, shape);
  check_f32(op, "lse", lse, q.rows(), shape.heads);
  check_activation(op, "d_o", d_o, o.rows(), o.cols());
  check_op(d_o.dtype == q.dtype, op, "d_o must be of q's type");
  check_activation(op, "d_q", d_q, q.rows(), q.cols());
  check_activation(op, "d_k", d_k, k.rows(), k.cols());
  check_activation(op, "d_v", d_v, v.rows(), v.cols());
  check_op(d_k.dtype == d_v.dtype, op, "d_k and d_v must be of one type");
  check_op(!d_sinks || shape.sinks, op, "d_sinks needs sinks");
  check_op(partial.contiguous(), op, "partial must be contiguous");
  check_f32(op, "partial", partial, q.rows(), attention_partial_columns(shape));
  for (const Sequence& s : sequences) {
    check_op(!s.pages && s.kv_start == s.start && s.kv_length == s.length + s.shared(), op, "keys and values must lie in the batch itself");
  }
  dispatch(
      ctx, op, [&] { attention_backward_cpu(d_q, d_k, d_v, d_o, o, lse, q, k, v, sequences, shape, partial, d_sinks); },
      attention_work(ctx, sequences, shape, 3, 2));
}

}  // namespace loraine
