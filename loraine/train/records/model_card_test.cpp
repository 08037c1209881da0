// README.md against those of LLaMA-Factory's runs: everything up to the framework versions.
#include "loraine/train/records/model_card.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "loraine/io/files/durable_file.h"
#include "loraine/train/records/metrics.h"

namespace loraine::model_card_test {
namespace {

namespace fs = std::filesystem;
const std::string kRuns = LORAINE_SOURCE_DIR "/../shared/golden/llamafactory/runs";

// The order in which metrics were logged (files hold them sorted).
OrderedJson in_logged_order(const OrderedJson& entry) {
  OrderedJson out;
  for (const char* key : {"eval_loss", "eval_accuracy", "eval_rewards/chosen", "eval_rewards/rejected", "eval_rewards/accuracies",
                          "eval_rewards/margins", "eval_logps/chosen", "eval_logps/rejected", "eval_logits/chosen", "eval_logits/rejected"})
    if (entry.contains(key)) out[key] = entry[key];
  for (auto it = entry.begin(); it != entry.end(); ++it) out[it.key()] = it.value();
  return out;
}

ModelCard card_of(const std::string& run) {
  std::map<std::string, std::string> yaml;
  std::ifstream file(run + "/train.yaml");
  for (std::string line; std::getline(file, line);)
    if (const size_t colon = line.find(": "); colon != std::string::npos) yaml[line.substr(0, colon)] = line.substr(colon + 2);
  const auto number = [&](const char* key, double fallback) { return yaml.count(key) ? std::stod(yaml[key]) : fallback; };
  ModelCard card;
  card.model_name = "output";
  card.base_model = yaml["model_name_or_path"];
  card.finetuning_type = yaml["finetuning_type"];
  card.datasets = {yaml["dataset"]};
  if (yaml["stage"] == "dpo") card.extra_tags = {"dpo", "trl"};
  card.learning_rate = number("learning_rate", 5e-5);
  card.train_batch_size = static_cast<int64_t>(number("per_device_train_batch_size", 8));
  card.eval_batch_size = static_cast<int64_t>(number("per_device_eval_batch_size", 8));
  card.gradient_accumulation_steps = static_cast<int64_t>(number("gradient_accumulation_steps", 1));
  card.adam_beta2 = number("adam_beta2", 0.999);
  card.lr_scheduler_type = yaml["lr_scheduler_type"];
  card.warmup = number("warmup_ratio", number("warmup_steps", 0));
  if (yaml.count("max_steps")) card.max_steps = static_cast<int64_t>(number("max_steps", 0));
  card.num_train_epochs = number("num_train_epochs", 3);
  card.label_smoothing_factor = number("label_smoothing_factor", 0);
  for (const OrderedJson& entry : read_trainer_state(run + "/output").log_history) card.log_history.push_back(in_logged_order(entry));
  const std::string evaluation = run + "/output/eval_results.json";
  if (fs::exists(evaluation)) {
    OrderedJson last = OrderedJson::parse(read_file(evaluation));
    last.erase("eval_perplexity");  // put into the file only
    card.log_history.push_back(in_logged_order(last));
  }
  return card;
}

TEST(ModelCard, EqualsReferenceRuns) {
  if (!fs::exists(kRuns)) GTEST_SKIP() << "no reference runs in " << kRuns;
  int compared = 0;
  for (const auto& entry : fs::directory_iterator(kRuns)) {
    const std::string run = entry.path().string();
    const std::string expected = read_file(run + "/output/README.md"), got = model_card_text(card_of(run));
    const auto comparable = [](const std::string& text) { return text.substr(0, text.find("- ", text.find("### Framework versions"))); };
    EXPECT_EQ(comparable(got), comparable(expected)) << run;
    EXPECT_NE(got.find("- loraine 0.1.0"), std::string::npos);
    ++compared;
  }
  EXPECT_GE(compared, 38);
}

TEST(ModelCard, NamesDataSetsAndQuotesYaml) {
  ModelCard card;
  card.model_name = "on";
  card.base_model = "org/model";
  card.datasets = {"a", "b", "c"};
  const std::string text = model_card_text(card);
  EXPECT_NE(text.find("on the a, the b and the c datasets.\n"), std::string::npos);
  EXPECT_NE(text.find("- name: 'on'\n"), std::string::npos);
  EXPECT_NE(text.find("- num_epochs: 3.0\n"), std::string::npos);
}

}  // namespace
}  // namespace loraine::model_card_test
