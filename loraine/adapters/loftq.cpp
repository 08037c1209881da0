// The alternation of LoftQ, and its codes in the base's place.
#include "loraine/adapters/loftq.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/adapters/low_rank.h"
#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/row_dots.h"

namespace loraine {
namespace {

void check_held(const WeightPart& part, Quantisation how) {
  const Dtype held = part.weight.dtype;
  if (!part.quant_state && is_packed(held))
    throw Error(ErrorKind::unsupported,
                fmt::format("init_lora_weights loftq: {} is stored as {}, and the start is made of the weight before it is quantised",
                            part.name, name_of(held)),
                "give the model in full; quantization_bit holds it in codes");
  if (part.quant_state && held != how.type)
    throw Error(ErrorKind::usage,
                fmt::format("init_lora_weights loftq: quantization_bit and quantization_type hold {} as {}, and loftq_bits of the adapter "
                            "makes {} of it",
                            part.name, name_of(held), name_of(how.type)),
                how.type == Dtype::NF4 ? "set quantization_bit: 4 and quantization_type: nf4, or leave quantization_bit out"
                                       : "set quantization_bit: 8, or leave it out");
}

void hold(WeightPart& part, QuantisedWeight q) {
  if (part.quant_state) {
    q.state->values = part.quant_state->values;
    part.weight = q.weight;
    part.owned = std::move(q.memory);
    part.quant_state = std::move(q.state);
  } else {
    const int64_t n = q.weight.numel();
    const Dtype type = part.weight.dtype;
    Buffer values(static_cast<size_t>(n) * sizeof(float));
    widen_row(static_cast<float*>(values.data()), q.weight);
    if (type != Dtype::F32) {
      Buffer narrow(static_cast<size_t>(bytes_of(type, n)));
      convert(narrow.data(), type, values.data(), Dtype::F32, n);
      values = std::move(narrow);
    }
    release_if_mapped(part.weight.data, part.weight.bytes());
    part.weight = Tensor(values.data(), type, {q.weight.rows(), q.weight.cols()});
    part.owned = std::move(values);
  }
  part.changed = true;
}

}  // namespace

bool quantises_base(const LoraConfig& config) { return config.init_lora_weights == "loftq"; }

Quantisation loftq_quantisation(const LoraConfig& config) { return {config.loftq_bits == 8 ? Dtype::INT8 : Dtype::NF4, false}; }

QuantisedWeight loftq(Context& ctx, const Tensor& w, Quantisation how, int64_t iterations, const Tensor& a, const Tensor& b,
                      bool last_product) {
  const int64_t r = a.rows(), in = w.cols(), out = w.rows();
  const Buffer memory(static_cast<size_t>(w.numel()) * sizeof(float));
  const Tensor rest(memory.data(), Dtype::F32, {out, in});
  std::copy_n(w.f32(), w.numel(), rest.f32());
  for (int64_t i = 0;; ++i) {
    QuantisedWeight q = quantise(rest, how, Dtype::F32);
    const bool last = i + 1 >= iterations;
    if (last && !last_product) return q;
    widen_row(rest.f32(), q.weight);
    for (int64_t e = 0; e < w.numel(); ++e) rest.f32()[e] = w.f32()[e] - rest.f32()[e];
    const Factors f = largest_singular(ctx, rest, r);
    for (int64_t k = 0; k < r; ++k) {
      const float root = std::sqrt(f.values[static_cast<size_t>(k)]);
      for (int64_t c = 0; c < in; ++c) a.f32()[k * in + c] = f.right[static_cast<size_t>(k * in + c)] * root;
      for (int64_t o = 0; o < out; ++o) b.f32()[o * r + k] = f.left[static_cast<size_t>(o * r + k)] * root;
    }
    if (last) return q;
    std::copy_n(w.f32(), w.numel(), rest.f32());
    matmul_nn(ctx, rest, b, a, -1, 1);
  }
}

void quantise_base(AdapterSet& set, const std::vector<Weight*>& sites, const LoraConfig& config, bool with_start,
                   const ReadWhole& read_whole) {
  const Quantisation how = loftq_quantisation(config);
  Context ctx;
  for (size_t s = 0; s < sites.size(); ++s) {
    if (!set.sites[s]) continue;
    for (const AdapterMatrices& m : set.sites[s]->matrices()) {
      WeightPart& part = sites[s]->parts[static_cast<size_t>(m.part.part)];
      check_held(part, how);
      const int64_t out = part.weight.rows(), in = part.weight.cols();
      const Buffer memory(static_cast<size_t>(out * in) * sizeof(float));
      const Tensor room(memory.data(), Dtype::F32, {out, in});
      const Tensor w = part.quant_state ? room : weight_rows(part, 0, out, room);
      if (part.quant_state) read_whole(part, room);
      hold(part, loftq(ctx, w, how, config.loftq_iter, m.a, m.b, with_start));
    }
  }
}

}  // namespace loraine
