// completions.jsonl: what was answered while a run trained, a line for each answer. Called where answers are generated.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loraine/train/rollouts/rollouts.h"

namespace loraine {

inline constexpr const char* kCompletionsLog = "completions.jsonl";

// Adds the answers that update `step` is the first to train on: {"step", "prompt", "completion", a reward by the name of each check,
// "advantage"}. `rollouts` holds those of each question side by side.
void log_completions(const std::string& output_dir, int64_t step, std::span<const AskedExample* const> asked,
                     std::span<const Rollout> rollouts, const std::vector<std::string>& checks, std::span<const double> advantages);
// At the start of a run: resume_step absent removes the log of another one; else lines past that step are dropped.
void begin_completions_log(const std::string& output_dir, std::optional<int64_t> resume_step);

}  // namespace loraine
