// See scores.h.
#include "loraine/api/scores.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/core/batch.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/train/evaluation/side_pass.h"
#include "loraine/train/objectives/reward_objective.h"

namespace loraine {
namespace {

int64_t most_scored(const LoadedModel& loaded, int64_t max_length) {
  const int64_t positions = loaded.model.config.max_position_embeddings;
  return max_length > 0 ? std::min(max_length, positions) : positions;
}

}  // namespace

std::vector<int32_t> scored_text(const LoadedModel& loaded, const std::string& text, int64_t max_length) {
  std::vector<int32_t> ids = loaded.text.tokenizer->encode(text);
  const auto most = static_cast<size_t>(most_scored(loaded, max_length));
  if (ids.size() > most) ids.resize(most);
  return ids;
}

std::vector<int32_t> scored_conversation(const LoadedModel& loaded, const Conversation& conversation, const AdapterSet* set,
                                         int64_t max_length) {
  Conversation asked = conversation;
  const std::string answer = asked.messages.back().content;
  asked.messages.pop_back();
  const Example example = loaded.answered(asked, answer, set);
  std::vector<int32_t> ids(example.input_ids.begin(), example.input_ids.end());
  if (const auto& closing = loaded.format_of(set).closing) ids.push_back(*closing);
  const int64_t most = most_scored(loaded, max_length);
  if (static_cast<int64_t>(ids.size()) > most)
    throw Error(ErrorKind::usage, fmt::format("a conversation has {} tokens, and at most {} are scored", ids.size(), most),
                "shorten it: what is scored is its end");
  return ids;
}

std::vector<double> scores_of(Context& ctx, const LoadedModel& loaded, const AdapterSet* set,
                              std::span<const std::vector<int32_t>> sequences) {
  std::string folder = loaded.files.path;
  if (set) {
    const auto found = loaded.folders.find(set->name);
    if (found == loaded.folders.end())
      throw Error(ErrorKind::usage, "several adapters are on together, and a score is that of one reward model",
                  "name the one that scores: adapter");
    folder = found->second;
  }
  const std::shared_ptr<const ValueHead> head = value_head_beside(folder, loaded.model.config.hidden_size);
  if (!head)
    throw Error(ErrorKind::usage, fmt::format("{}: there is no {}, which scores answers", folder, kValueHeadFile),
                "open a reward model: the output_dir of a run with stage: rm");
  size_t longest = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].empty()) throw Error(ErrorKind::usage, fmt::format("text {} has no token, and none is scored", i), "leave it out");
    longest = std::max(longest, sequences[i].size());
  }
  if (sequences.empty()) return {};
  SidePass side(loaded.model, static_cast<int64_t>(longest), set);
  Arena scratch(3 * static_cast<size_t>(loaded.model.config.hidden_size) * sizeof(float) + 3 * 64);
  std::vector<double> scores;
  for (const std::vector<int32_t>& ids : sequences) {
    const Example example{ids, std::vector<int32_t>(ids.size(), kIgnoreLabel)};
    const Example* one = &example;
    const Batch batch = make_batch({&one, 1});
    const Tensor hidden = side.hidden(ctx, batch, true);
    scores.push_back(reward_scores(ctx, *head, hidden, batch, {&one, 1}, scratch).front());
  }
  check_mapped_files();
  return scores;
}

}  // namespace loraine
