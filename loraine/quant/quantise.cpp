// One function for all kinds.
#include "loraine/quant/quantise.h"

#include <fmt/format.h>

#include "loraine/core/grouped_codes.h"
#include "loraine/core/packed.h"
#include "loraine/quant/bitsandbytes.h"
#include "loraine/quant/hqq.h"

namespace loraine {

QuantisedWeight quantise(const Tensor& weight, Quantisation how, Dtype values) {
  return in_groups(how.type) ? quantise_as_hqq(weight, how, values) : quantise_as_bitsandbytes(weight, how, values);
}

Quantisation quantisation_of(const Tensor& weight) {
  const QuantState& state = *weight.quant;
  Quantisation how{weight.dtype, weight.dtype != Dtype::INT8 && !state.absmax};
  if (!in_groups(weight.dtype)) return how;
  const GroupedCodes& g = *state.groups;
  how.nested = false;
  how.axis = g.period ? 0 : 1;
  how.group_size = g.period ? weight.numel() / g.period : g.group_cols;
  how.scales = g.scale_type == ScaleType::f32 ? Dtype::F32 : g.scale_type == ScaleType::bf16 ? Dtype::BF16 : Dtype::F16;
  return how;
}

std::string quantisation_text(const Quantisation& how) {
  if (in_groups(how.type)) return fmt::format("HQQ in {} bits, groups of {} along axis {}", hqq_bits(how.type), how.group_size, how.axis);
  if (how.type == Dtype::INT8) return "int8";
  return std::string(how.type == Dtype::FP4 ? "fp4" : "nf4") + (how.nested ? ", scales quantised too" : "");
}

}  // namespace loraine
