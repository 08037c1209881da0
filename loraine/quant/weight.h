// A frozen weight as it lies in memory and how it is multiplied. Several Hugging Face matrices that share their input form one site.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"
#include "loraine/quant/quantise.h"

namespace loraine {

struct WeightPart {
  std::string name;                         // module path of transformers, "model.layers.0.self_attn.q_proj": what adapters call it
  std::string stored;                       // its name in the model's files, which may be another (nested models)
  Tensor weight;                            // [out, in], F32, F16, BF16 or packed, mapped or owned
  const float* bias = nullptr;              // [out] or nullptr
  Buffer owned, owned_bias;                 // empty when mapped in place
  std::unique_ptr<QuantState> quant_state;  // of a weight that was quantised here: its codes and scales are in `owned`
  bool transposed = false;                  // in the model's files, which hold it as [in, out]
  bool changed = false;                     // by LoftQ: it is not what the model's file holds
};

struct Weight {
  std::vector<WeightPart> parts;  // stacked along `out`
  bool is_head = false;
  bool whole = false;             // left as it is where layers are quantised (head, routers)
  bool bare = false;              // a parameter of its module and no layer of its own: only its name reaches it, `all` does not
  bool integer_products = false;  // all parts are INT8, and what they are multiplied with is rounded too (int8_weight.h)
  int64_t in() const { return parts.empty() ? 0 : parts[0].weight.shape[1]; }
  int64_t out() const;  // sum over parts
};

// y [T, out] = x [T, in] Wᵀ + bias (y overwritten); with_bias = false leaves the bias out
void multiply_weight(Context& ctx, const Tensor& y, const Weight& weight, const Tensor& x, bool with_bias = true);
// dx [T, in] (+)= dy [T, out] W
void multiply_weight_backward(Context& ctx, const Tensor& d_x, const Weight& weight, const Tensor& d_y, bool accumulate);
// The same for one part by itself: y [T, out of the part], d_y likewise.
void multiply_part(Context& ctx, const Tensor& y, const Weight& weight, size_t part, const Tensor& x, bool with_bias = true);
void multiply_part_backward(Context& ctx, const Tensor& d_x, const Weight& weight, size_t part, const Tensor& d_y, bool accumulate);
// The part's matrix as codes (quantise), in memory of its own; what it lay in is let go of (a mapping stays as it is).
void quantise_part(WeightPart& part, Quantisation how, Dtype values);
// Rows [first, first + count) of a part as F32 [count, in]: where they lie, or widened into `room` (of that shape, F32).
Tensor weight_rows(const WeightPart& part, int64_t first, int64_t count, const Tensor& room);

}  // namespace loraine
