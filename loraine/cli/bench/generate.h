// The speed of reading a prompt in and of decoding, beside a plain read of the weights. Called by bench.
#pragma once
#include <vector>

#include "loraine/core/context.h"
#include "loraine/model/model.h"

namespace loraine {

struct GenerateFigures {
  double prefill = 0, decode = 0, adapter_decode = 0, read_rate = 0, decode_rate = 0, adapter_rate = 0, cpu_share = 0;
  std::vector<double> round_cpu_shares, round_adapter_cpu_shares;  // of every round by itself
};

GenerateFigures bench_generate(Context& ctx, const Model& model, int64_t rank, int64_t prompt_tokens, int64_t new_tokens, int64_t repeats);

}  // namespace loraine
