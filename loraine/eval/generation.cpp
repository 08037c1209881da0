// Prompts through the engine, per_device_eval_batch_size at once.
#include "loraine/eval/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <numeric>

#include "loraine/core/gpu.h"
#include "loraine/core/python_json.h"
#include "loraine/eval/text_scores.h"
#include "loraine/eval/words.h"

namespace loraine {

namespace {

struct EngineSize {
  int64_t sequences, capacity;
};

// For per_device_eval_batch_size prompts at once, the longest of all together, or as many fewer as memory allows: answers do not depend on
// it.
EngineSize engine_size(const Subject& subject, const std::vector<std::vector<int32_t>>& prompts, const GenerateOptions& options) {
  const LoadedModel& loaded = subject.loaded;
  std::vector<int64_t> lengths;
  for (const auto& prompt : prompts) lengths.push_back(static_cast<int64_t>(prompt.size()));
  std::ranges::sort(lengths, std::greater<>());
  const auto of = [&](int64_t sequences) {
    const int64_t prompt_rows = std::accumulate(lengths.begin(), lengths.begin() + sequences, int64_t{0});
    const int64_t rows = prompt_rows + sequences * options.max_new_tokens, beams = options.num_beams;
    return EngineSize{sequences, beams > 1 ? (rows + sequences * kKvPage) * beams : rows};  // a beam has a last page of its own
  };
  const auto bytes = [&](const EngineSize& size) {
    return engine_bytes(loaded.model, size.capacity, loaded.widest_adapter(), seats_for(loaded.model, size.sequences, options.num_beams));
  };
  EngineSize size = of(std::min(loaded.config.per_device_eval_batch_size, static_cast<int64_t>(prompts.size())));
  if (loaded.gpu) {
    const auto fits = [&](const EngineSize& one) {
      return engine_gpu_bytes(*loaded.gpu, one.capacity, loaded.widest_adapter(),
                              seats_for(loaded.model, one.sequences, options.num_beams)) <= free_gpu_bytes();
    };
    while (size.sequences > 1 && !fits(size)) size = of(size.sequences - 1);
    return size;
  }
  while (size.sequences > 1 && !has_room(subject, bytes(size))) size = of(size.sequences - 1);
  check_room(subject, bytes(size));
  return size;
}

}  // namespace

std::vector<std::string> generate_answers(const Subject& subject, const std::vector<std::vector<int32_t>>& prompts,
                                          const GenerateOptions& options, const std::string& what, EvalResult& result) {
  const LoadedModel& loaded = subject.loaded;
  if (prompts.empty()) return {};
  const EngineSize size = engine_size(subject, prompts, options);
  Engine engine(loaded.model, size.capacity, loaded.widest_adapter(), seats_for(loaded.model, size.sequences, options.num_beams),
                loaded.gpu.get());
  Context ctx;
  std::vector<std::string> answers(prompts.size());
  std::map<int64_t, size_t> running;  // request → place of its prompt
  size_t next = 0;
  int64_t finished = 0, cut = 0;
  const auto take = [&](int64_t request, size_t place) {
    std::vector<int32_t> ids = engine.take(request);
    const bool stopped = !ids.empty() && std::ranges::find(options.stop_ids, ids.back()) != options.stop_ids.end();
    if (stopped) ids.pop_back();
    else ++cut;
    answers[place] = loaded.text.tokenizer->decode(ids, loaded.config.skip_special_tokens);
    subject.progress(what, ++finished, static_cast<int64_t>(prompts.size()));
  };
  while (next < prompts.size() || !running.empty()) {
    for (; next < prompts.size() && static_cast<int64_t>(running.size()) < size.sequences; ++next)
      running.emplace(engine.submit({prompts[next], subject.adapter, options, {}}), next);
    engine.step(ctx);
    for (auto it = running.begin(); it != running.end();) {
      const bool done = engine.done(it->first);
      if (done) take(it->first, it->second);
      it = done ? running.erase(it) : std::next(it);
    }
  }
  if (cut > 0)
    result.warnings.push_back(fmt::format("{} ({}): {} of {} answers do not end by themselves and are cut at max_new_tokens ({})",
                                          subject.adapter ? subject.adapter->name : "base", what, cut, prompts.size(),
                                          options.max_new_tokens));
  return answers;
}

void predict(const Subject& subject, const std::vector<Prompt>& prompts, EvalResult& result) {
  const Tokenizer& tokenizer = *subject.loaded.text.tokenizer;
  std::vector<std::vector<int32_t>> asked;
  for (const Prompt& prompt : prompts) asked.push_back(prompt.input_ids);
  const std::vector<std::string> answers =
      generate_answers(subject, asked, generate_options(subject.loaded, subject.adapter), "generation", result);
  const auto percent = [](const char* name) { return Figure{.name = name, .lowest = 0, .highest = 100}; };
  Figure bleu = percent("predict_bleu-4"), one = percent("predict_rouge-1"), two = percent("predict_rouge-2"),
         l = percent("predict_rouge-l");
  std::string lines;
  bool chinese = false;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string label = tokenizer.decode(prompts[i].label_ids, true);
    chinese = chinese || has_chinese(to_characters(answers[i])) || has_chinese(to_characters(label));
    const TextScores scores = score_text(answers[i], label);
    bleu.add(scores.bleu_4);
    one.add(scores.rouge_1);
    two.add(scores.rouge_2);
    l.add(scores.rouge_l);
    lines +=
        python_json(nlohmann::ordered_json{{"prompt", tokenizer.decode(prompts[i].input_ids)}, {"predict", answers[i]}, {"label", label}}) +
        "\n";
  }
  for (Figure* figure : {&bleu, &one, &two, &l}) add_figure(result, std::move(*figure));
  if (chinese && !word_table()) {
    result.metrics["predict_chinese_words"] = "single characters";
    result.warnings.push_back(
        "ROUGE of Chinese text counts single characters, not LLaMA-Factory's words: this program was built without jieba's dictionary; "
        "install python3-jieba and build it anew for figures that equal LLaMA-Factory's");
  }
  result.files.emplace_back("generated_predictions.jsonl", lines);
}

}  // namespace loraine
