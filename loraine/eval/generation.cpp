// One prompt after another through the engine.
#include "loraine/eval/generation.h"

#include <algorithm>

#include "loraine/data/python_json.h"
#include "loraine/eval/text_scores.h"

namespace loraine {

std::vector<std::string> generate_answers(const Subject& subject, const std::vector<std::vector<int32_t>>& prompts,
                                          const GenerateOptions& options, const std::string& what) {
  const LoadedModel& loaded = subject.loaded;
  int64_t longest = 0;
  for (const auto& prompt : prompts) longest = std::max(longest, static_cast<int64_t>(prompt.size()));
  Engine engine(loaded.model, longest + options.max_new_tokens, loaded.widest_adapter());
  Context ctx;
  std::vector<std::string> answers;
  for (const auto& prompt : prompts) {
    std::vector<int32_t> ids = engine.generate(ctx, prompt, subject.adapter, options);
    if (!ids.empty() && std::ranges::find(options.stop_ids, ids.back()) != options.stop_ids.end()) ids.pop_back();
    answers.push_back(loaded.text.tokenizer->decode(ids, loaded.config.skip_special_tokens));
    subject.progress(what, static_cast<int64_t>(answers.size()), static_cast<int64_t>(prompts.size()));
  }
  return answers;
}

void predict(const Subject& subject, const std::vector<Prompt>& prompts, EvalResult& result) {
  const Tokenizer& tokenizer = *subject.loaded.text.tokenizer;
  std::vector<std::vector<int32_t>> asked;
  for (const Prompt& prompt : prompts) asked.push_back(prompt.input_ids);
  const std::vector<std::string> answers = generate_answers(subject, asked, generate_options(subject.loaded), "generation");
  Figure bleu{.name = "predict_bleu-4"}, one{.name = "predict_rouge-1"}, two{.name = "predict_rouge-2"}, l{.name = "predict_rouge-l"};
  std::string lines;
  for (size_t i = 0; i < prompts.size(); ++i) {
    const std::string label = tokenizer.decode(prompts[i].label_ids, true);
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
  result.files.emplace_back("generated_predictions.jsonl", lines);
}

}  // namespace loraine
