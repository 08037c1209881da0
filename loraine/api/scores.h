// Scores of a reward model (stage rm): texts and conversations to ids, ids to the head over the state of their last token. Called by
// ChatModel.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "loraine/api/loaded_model.h"
#include "loraine/core/context.h"

namespace loraine {

// A text as it is, without special tokens around it, cut behind `max_length` tokens (0: the model's positions), as LLaMA-Factory does.
std::vector<int32_t> scored_text(const LoadedModel& loaded, const std::string& text, int64_t max_length);
// A conversation that ends with the answer that is scored, as the adapter (nullptr: the base) was trained on it. usage where it is longer.
std::vector<int32_t> scored_conversation(const LoadedModel& loaded, const Conversation& conversation, const AdapterSet* set,
                                         int64_t max_length);

// One per sequence of ids, each by itself. usage where no value head lies beside the adapter (or the base) or a sequence is empty.
std::vector<double> scores_of(Context& ctx, const LoadedModel& loaded, const AdapterSet* set,
                              std::span<const std::vector<int32_t>> sequences);

}  // namespace loraine
