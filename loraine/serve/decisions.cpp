// See decisions.h.
#include "loraine/serve/decisions.h"

#include "loraine/serve/sequence_run.h"

namespace loraine {
namespace {

using Trees = std::vector<LabelTree>;

// What is asked of the engine: the places of every prompt's labels.
struct Decision {
  std::shared_ptr<Trees> trees = std::make_shared<Trees>();  // held by the sequences too, which may outlast the request
  std::vector<std::shared_ptr<Generation>> heads;            // of each prompt the sequence of the first place
  SequenceRun::Sequences later;                              // all but the very first one
};

std::shared_ptr<Generation> sequence_of(const std::shared_ptr<Trees>& trees, const LabelledPrompt& prompt, size_t tree, size_t place) {
  auto sequence = std::make_shared<Generation>();
  sequence->prompt = prompt.ids;
  const std::vector<int32_t>& behind = (*trees)[tree].places()[place];
  sequence->prompt.insert(sequence->prompt.end(), behind.begin(), behind.end());
  sequence->options.max_new_tokens = 1;
  sequence->on_logits = [trees, tree, place](std::span<const float> logits) { (*trees)[tree].tell(place, logits); };
  return sequence;
}

}  // namespace

void decide(Service& service, Call call, std::shared_ptr<const ServedAdapter> adapter, const std::vector<LabelledPrompt>& prompts,
            const char* param, std::function<void(Call&, const Decided&)> done) {
  auto decision = std::make_shared<Decision>();
  for (const LabelledPrompt& prompt : prompts) decision->trees->emplace_back(prompt.labels);
  SequenceRun::Sequences all;
  for (size_t p = 0; p < prompts.size(); ++p)
    for (size_t place = 0; place < (*decision->trees)[p].places().size(); ++place) {
      all.push_back(sequence_of(decision->trees, prompts[p], p, place));
      all.back()->adapter = adapter;
      all.back()->prefix_key = service.prefix_key(adapter.get(), "");
      if (place == 0) decision->heads.push_back(all.back());
    }
  decision->later.assign(all.begin() + 1, all.end());
  const std::optional<double> temperature = adapter ? adapter->decision_temperature : service.decision_temperature;
  const auto finish = [decision, temperature, done = std::move(done)](Service&, Call& answered) {
    Decided decided;
    for (const LabelTree& tree : *decision->trees) decided.shares.push_back(tree.shares(temperature));
    for (const auto& head : decision->heads) {
      decided.prompt_tokens += static_cast<int64_t>(head->prompt.size());
      decided.cached_tokens += head->cached();
    }
    done(answered, decided);
  };
  SequenceRun::check_lengths(service, all, param);
  SequenceRun::start(service, std::move(call), {all.front()}, param, [decision, finish, param](Service& s, Call& answered) {
    if (decision->later.empty()) return finish(s, answered);
    SequenceRun::start(s, answered, decision->later, param, finish);
  });
}

}  // namespace loraine
