// Questions with few answers: how many are right, how far their probabilities are what they say, and how fast they are. Called by
// evaluate.cpp.
#pragma once
#include "loraine/eval/figures.h"
#include "loraine/eval/subject.h"

namespace loraine {

// Adds eval_accuracy, eval_nll, eval_brier, of scores eval_mae, eval_calibration_error (and …_before the temperature), eval_temperature,
// eval_answers_per_second; decisions.jsonl with the probabilities of every choice, reliability.png. The temperature is that beside the
// adapter that is on, or beside the model; 1 where several are on, or none was fitted.
void measure_decisions(const Subject& subject, const Dataset& set, EvalResult& result);

}  // namespace loraine
