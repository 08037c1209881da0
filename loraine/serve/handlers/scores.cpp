// Texts to the scores of a reward model, as LLaMA-Factory's api gives them: the value head over the state of each text's last token.
#include <algorithm>

#include "loraine/serve/chosen_adapter.h"
#include "loraine/serve/embeddings.h"
#include "loraine/serve/handlers/conversation.h"
#include "loraine/serve/handlers/handlers.h"
#include "loraine/serve/protocol/json_body.h"
#include "loraine/serve/protocol/scores_form.h"
#include "loraine/serve/sequence_run.h"

namespace loraine {
namespace {

// A score per text, told by the threads of the engine.
struct TextScores {
  std::shared_ptr<const ValueHead> head;
  std::vector<double> scores;
};

void score(Service& service, Call& call) {
  const AskedScores asked = read_scores(parse_json_body(call.request.body), service.loaded->config.strict);
  note_ignored(call, asked.ignored);
  auto adapter = chosen_adapter(service, asked.model, {});
  auto told = std::make_shared<TextScores>();
  told->head = adapter ? adapter->value_head : service.value_head;
  if (!told->head)
    throw ApiError{405, "the model that is asked gives answers, not scores: no value head of a reward model lies beside it", "model",
                   "method_not_allowed"};
  told->scores.resize(asked.texts.size());
  const int64_t positions = std::max<int64_t>(service.loaded->model.config.max_position_embeddings, 2);
  const auto most = static_cast<size_t>(std::min(asked.max_length.value_or(positions), positions));
  SequenceRun::Sequences sequences;
  {
    const std::shared_lock lock(service.text_mutex);
    for (size_t i = 0; i < asked.texts.size(); ++i) {
      auto sequence = std::make_shared<Generation>();
      sequence->prompt = service.loaded->text.tokenizer->encode(asked.texts[i]);
      if (sequence->prompt.size() > most) sequence->prompt.resize(most);
      sequence->adapter = adapter;
      sequence->options.max_new_tokens = 0;
      sequence->on_prompt_hidden = [told, i](std::span<const float> hidden) { told->scores[i] = told->head->score(hidden.data()); };
      sequences.push_back(std::move(sequence));
    }
  }
  call.request.body = {};
  const std::string name = asked.model.empty() ? service.model_name : asked.model;
  SequenceRun::start(service, call, std::move(sequences), "messages",
                     [told, name](Service& s, Call& answered) { answered.json(scores_json(told->scores, name, s.new_id("scoreval-"))); });
}

}  // namespace

void post_score(Service& service, Call call) {
  if (!refused_early(service, call)) in_worker(service, std::move(call), score);
}

}  // namespace loraine
