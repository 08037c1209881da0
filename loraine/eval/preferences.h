// Pairs of answers, and answers that were judged: the loss of the stage that trains on them, rewards, and a reward model's scores. Called
// by evaluate.cpp.
#pragma once
#include <memory>

#include "loraine/eval/figures.h"
#include "loraine/eval/subject.h"
#include "loraine/train/objectives/objective.h"

namespace loraine {

// The objective of config.stage over the opened model; of stage rm with the value head beside its adapter (bad_data where there is none).
std::unique_ptr<Objective> open_objective(const LoadedModel& loaded);

// eval_loss and the figures that training logs, with eval_ before them; of stage rm also eval_accuracy with its interval. predictions: of
// stage rm the scores of every pair, as predict_… and in generated_predictions.jsonl.
void measure_preferences(const Subject& subject, const Dataset& set, bool predictions, EvalResult& result);

}  // namespace loraine
