// What stage decision is told.
#include "loraine/train/config/decisions.h"

#include <fmt/format.h>

#include "loraine/core/error.h"

namespace loraine {

void describe_decisions(TrainConfig& c, const OptionVisitor& visit) {
  visit({"decision_brier",
         "decisions",
         &c.decision_brier,
         "stage decision: weight of the squared error of the probabilities (Brier) beside -log p",
         {.lowest = 0, .highest = 1e6}});
  visit({"decision_holdout",
         "decisions",
         &c.decision_holdout,
         "stage decision: share of the training rows that the temperature is fitted on instead, where there are no others to evaluate on",
         {.lowest = 0, .highest = 0.5}});
}

bool holds_out(const TrainConfig& c) {
  return c.stage == "decision" && c.decision_holdout > 0 && c.val_size <= 1e-6 && split_list(c.eval_dataset).empty() &&
         !split_list(c.dataset).empty();
}

void check_decisions(const TrainConfig& c) {
  if (c.stage != "decision") return;
  const auto refuse = [](const std::string& message, const std::string& hint) { throw Error(ErrorKind::usage, message, hint); };
  if (c.streaming) refuse("streaming goes with stages sft and pt", "leave it out");
  if (c.tokenized_path) refuse("tokenized_path does not go with stage decision", "leave it out: the rows are encoded while they are read");
  if (c.compute_accuracy) refuse("compute_accuracy counts tokens, and stage decision logs its accuracy anyway", "leave it out");
}

}  // namespace loraine
