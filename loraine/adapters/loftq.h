// LoftQ (Li et al. 2023), PEFT's init_lora_weights loftq: the base becomes its quantised self, and A and B start as the best product for
// what that loses. Called by start_adapter, and by model/attach when an adapter that started so is loaded.
#pragma once
#include <functional>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/quant/quantise.h"

namespace loraine {

// Whether the start quantises the base. The file of such an adapter expects the same of whoever loads it.
bool quantises_base(const LoraConfig& config);
// What to: NF4 or INT8, with scales in f32 as PEFT has them.
Quantisation loftq_quantisation(const LoraConfig& config);

// Q + B A for w [out, in] F32. `iterations` times, at first with B A = 0: Q = quantise(w − B A), then B A = the r largest singular triplets
// of w − Q, the root of each value on either side. a [r, in], b [out, r] F32 are written; with last_product false they are left as they
// were when the last Q was made. Values of Q are in F32.
QuantisedWeight loftq(Context& ctx, const Tensor& w, Quantisation how, int64_t iterations, const Tensor& a, const Tensor& b,
                      bool last_product = true);

// The values of a part before it was quantised while loading, into `room` [out, in] F32.
using ReadWhole = std::function<void(const WeightPart& part, const Tensor& room)>;
// Replaces every weight that the set adapts by its Q, one after the other: in codes where the model holds it in codes, else in its own
// type. A and B get their start, or, with_start false, values without meaning (for a set that is read next). read_whole is called for
// weights in codes. Throws usage or unsupported where the base is held or stored in other codes than those of the config.
void quantise_base(AdapterSet& set, const std::vector<Weight*>& sites, const LoraConfig& config, bool with_start,
                   const ReadWhole& read_whole);

}  // namespace loraine
