// share_prefixes: whether samples of a micro-batch that begin with the same tokens have these rows once. Called by train() before the plan.
#include <fmt/format.h>

#include <string>

#include "loraine/train/run.h"

namespace loraine {
namespace {

// What makes a row of one sample another than that row of the next, though their tokens are the same; empty: nothing.
std::string what_keeps_rows_apart(const Run& run) {
  const TrainConfig& c = run.config;
  const double dropout = trains_adapter(c) && run.objective->keeps_dropout() ? run.lora.lora_dropout : 0;
  if (dropout > 0) return fmt::format("lora_dropout is {}, and each sample draws a mask of its own", dropout);
  if (!run.adapter.invocation.empty()) return "alora_invocation_tokens is given, and where the adapter is on follows from a whole sample";
  if (c.neftune_noise_alpha.value_or(0) > 0) return "neftune_noise_alpha is given, and each sample draws noise of its own";
  if (run.objective->means_over_tokens() && run.model.config.router_aux_loss_coef != 0)
    return "the load-balancing loss of the experts counts the tokens of each sample";
  return "";
}

}  // namespace

void share_prefixes(Run& run) {
  const TrainConfig& c = run.config;
  if (run.input.device == Device::cuda) return;  // whose attention takes whole sequences
  const bool answers_share = c.stage == "dpo" || c.stage == "kto" || c.stage == "rm" || c.stage == "grpo";  // a prompt, by their nature
  if (c.share_prefixes == "false" || (c.share_prefixes == "auto" && !answers_share)) return;
  if (const std::string reason = what_keeps_rows_apart(run); !reason.empty()) {
    if (c.share_prefixes == "auto") return;
    throw Error(ErrorKind::usage, "share_prefixes: " + reason, "leave one of the two out");
  }
  const int64_t up_to = shares_up_to(run.model);
  if (up_to == 0 && run.screen.message)
    run.screen.message(fmt::format("share_prefixes: layers of {} carry a state along the rows, so every sample is computed by itself",
                                   run.model.config.model_type));
  else if (up_to < INT64_MAX && run.screen.message)
    run.screen.message(
        fmt::format("share_prefixes: rotations of samples of more than {} tokens depend on their length; these share nothing", up_to));
  run.objective->share_prefixes(up_to);
}

}  // namespace loraine
