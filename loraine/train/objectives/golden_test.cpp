// Every objective over preferences, and that of decisions, against torch: the loss of each micro-batch and the gradients of the adapter
// (and of the value head), through the model's own forward and backward. Cases: tests/golden/make_preference_cases.py,
// make_decision_cases.py; those of ../shared/golden/peft/preference where they are there.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/data/decisions/label_tree.h"
#include "loraine/data/examples/batcher.h"
#include "loraine/io/model_files.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"
#include "loraine/train/objectives/objective.h"
#include "tests/support/apart.h"
#include "tests/support/objective_memory.h"

namespace loraine::golden_test {
namespace {

namespace fs = std::filesystem;
const fs::path kSource = LORAINE_SOURCE_DIR;

std::vector<float> floats(const TensorSource& source, const std::string& name) {
  const TensorInfo* info = source.find(name);
  if (!info) throw Error(ErrorKind::bad_data, "no " + name);
  const Tensor shape(nullptr, Dtype::F32, info->shape);
  std::vector<float> values(static_cast<size_t>(shape.numel()));
  source.read(*info, Tensor(values.data(), Dtype::F32, info->shape));
  return values;
}

std::vector<int64_t> integers(const TensorSource& source, const std::string& name) {
  const TensorInfo* info = source.find(name);
  if (!info || info->dtype != Dtype::I64) throw Error(ErrorKind::bad_data, "no integers " + name);
  const Tensor at = source.map(*info);
  const auto* first = static_cast<const int64_t*>(at.data);
  return {first, first + at.numel()};
}

// The rows without their padding.
std::vector<Example> examples_of(const TensorSource& source, const std::string& name) {
  const std::vector<int64_t> ids = integers(source, name + ".input_ids"), labels = integers(source, name + ".labels"),
                             mask = integers(source, name + ".attention_mask");
  const auto rows = static_cast<size_t>(source.find(name + ".input_ids")->shape[0]);
  const size_t columns = ids.size() / rows;
  std::vector<Example> examples;
  for (size_t row = 0; row < rows; ++row) {
    std::vector<int32_t> own, of;
    for (size_t i = row * columns; i < (row + 1) * columns && mask[i]; ++i) {
      own.push_back(static_cast<int32_t>(ids[i]));
      of.push_back(static_cast<int32_t>(labels[i]));
    }
    Example& example = examples.emplace_back();
    example.input_ids = std::move(own);
    example.labels = std::move(of);
  }
  return examples;
}

// Prompts whose labels are those of a case.
std::vector<DecisionExample> decisions_of(const TensorSource& source, const std::string& name) {
  const std::vector<int64_t> ids = integers(source, "prompt.input_ids"), mask = integers(source, "prompt.attention_mask"),
                             label_ids = integers(source, name + ".labels"), right = integers(source, name + ".right");
  const auto rows = static_cast<size_t>(source.find("prompt.input_ids")->shape[0]),
             choices = static_cast<size_t>(source.find(name + ".labels")->shape[0]);
  auto shared = std::make_shared<DecisionChoices>();
  for (size_t c = 0; c < choices; ++c) {
    std::vector<int32_t>& label = shared->labels.emplace_back();
    for (size_t i = c * label_ids.size() / choices; i < (c + 1) * label_ids.size() / choices && label_ids[i] >= 0; ++i)
      label.push_back(static_cast<int32_t>(label_ids[i]));
  }
  std::vector<DecisionExample> decisions;
  for (size_t row = 0; row < rows; ++row) {
    std::vector<int32_t> prompt;
    for (size_t i = row * ids.size() / rows; i < (row + 1) * ids.size() / rows && mask[i]; ++i)
      prompt.push_back(static_cast<int32_t>(ids[i]));
    DecisionExample& made = decisions.emplace_back();
    made.prompt = static_cast<int32_t>(prompt.size());
    made.label = static_cast<int32_t>(right[row]);
    made.choices = shared;
    for (const std::vector<int32_t>& beginning : label_beginnings(shared->labels)) {
      std::vector<int32_t> whole = prompt;
      whole.insert(whole.end(), beginning.begin(), beginning.end());
      Example& sample = made.samples.emplace_back();
      sample.labels = std::vector<int32_t>(whole.size(), kIgnoreLabel);
      sample.input_ids = std::move(whole);
    }
  }
  return decisions;
}

using Values = std::map<std::string, std::vector<float>>;

struct Ran {
  double loss = 0;
  Values gradients;
  OrderedJson figures;
};

// Beside what the case says: DoRA over the adapter's targets, a base in NF4, values moved by `step` along `direction`.
struct Changes {
  bool dora = false, quantised = false;
  const Values* direction = nullptr;
  double step = 0;
  std::string decision = {};  // stage decision: the case
};

// One update of `micro_batches` micro-batches, of the items in their order.
Ran run(const fs::path& llama, const fs::path& file, const TrainConfig& config, size_t micro_batches, const Changes& changes = {}) {
  ModelFiles files = open_model_files((llama / "model").string());
  LoadOptions load;
  if (changes.quantised) load.quantisation = {Dtype::NF4, true};
  Model model = load_model(files, load);
  const std::unique_ptr<Objective> objective = make_objective(config);
  LoraConfig lora;
  AdapterSet set = load_adapter_to_train(model, (llama / "lora").string(), &lora, objective->keeps_dropout());
  if (changes.dora) {
    lora.use_dora = true;
    set = attach_adapter(model, lora, true);
    start_adapter(set, model, lora, 1);
  }
  const std::unique_ptr<TensorSource> source = open_tensor_source(file.string());
  const bool decides = config.stage == "decision";
  const std::vector<Example> chosen = decides ? std::vector<Example>() : examples_of(*source, "chosen"),
                             rejected = decides ? std::vector<Example>() : examples_of(*source, "rejected");
  const std::vector<DecisionExample> decisions = decides ? decisions_of(*source, changes.decision) : std::vector<DecisionExample>();
  std::vector<Item> items;
  for (const DecisionExample& one : decisions) items.push_back({&one.samples.front(), nullptr, false, &one});
  for (size_t i = 0; i < chosen.size(); ++i) items.push_back({&chosen[i], &rejected[i], i % 2 == 0});
  const fs::path head = fs::temp_directory_path() / "loraine_value_head_test";
  if (config.stage == "rm") {
    fs::create_directories(head);
    std::vector<float> weight = floats(*source, "v_head.summary.weight"), bias = floats(*source, "v_head.summary.bias");
    write_safetensors((head / "value_head.safetensors").string(),
                      {{"v_head.summary.bias", Tensor(bias.data(), Dtype::F32, {1})},
                       {"v_head.summary.weight", Tensor(weight.data(), Dtype::F32, {1, static_cast<int64_t>(weight.size())})}},
                      {{"format", "pt"}});
  }
  objective->begin({model, nlohmann::json{{"summary_dropout_prob", 0.0}}, head.string(), 1});
  std::vector<Parameter> parameters = set.parameters();
  for (const Parameter& own : objective->parameters()) parameters.push_back(own);
  zero_gradients(parameters);

  if (changes.direction)
    for (const Parameter& p : parameters)
      for (int64_t i = 0; i < p.value.numel(); ++i)
        p.value.f32()[i] += static_cast<float>(changes.step) * changes.direction->at(p.name)[static_cast<size_t>(i)];
  Context ctx;
  set.refresh(ctx);

  int64_t rows = 0;
  for (const Item& item : items) rows += decides ? item_rows(*objective, item).trained : item_rows(*objective, item).beside;
  ObjectiveMemory memory(model, set, *objective, rows);
  SidePass side(model, rows, &set);
  LoggedFigures figures;
  Ran ran;
  const size_t size = items.size() / micro_batches;
  objective->begin_update(items, static_cast<int64_t>(micro_batches));
  for (size_t first = 0; first < items.size(); first += size) {
    const std::span<const Item> picked = std::span(items).subspan(first, size);
    Batch batch = make_batch(samples_of(*objective, picked));
    batch.adapter_rows = {{0, batch.rows(), 0}};
    const Tensor d = memory.d_hidden.row_range(0, batch.rows());
    decoder_forward(ctx, model, batch, memory.pass);
    ran.loss += objective->loss({ctx, model, &set, picked, batch, memory.hidden(batch.rows()), d, memory.scratch, &side, nullptr, figures});
    decoder_backward(ctx, model, batch, memory.pass, set, d);
  }
  set.finish_gradients(ctx);
  ran.gradients = gradients_of(parameters);
  ran.figures = figures.values();
  fs::remove_all(head);
  return ran;
}

TrainConfig settings(const std::string& name) {
  TrainConfig c;
  c.stage = name == "kto" ? "kto" : name == "reward" ? "rm" : "dpo";
  if (c.stage == "dpo") c.pref_loss = name.substr(0, name.find('_'));
  if (name == "sigmoid_smooth") c.dpo_label_smoothing = 0.1;
  if (name == "sigmoid_ftx") c.pref_ftx = 0.3;
  if (name == "sigmoid_bco") c.pref_bco_weight = 0.4;
  if (name == "sigmoid_ld") c.ld_alpha = 0.5;
  if (c.stage == "kto") {
    c.kto_chosen_weight = 0.8;
    c.kto_rejected_weight = 1.4;
  }
  return c;
}

// The number of tensors that were compared.
int check_case(const fs::path& llama, const fs::path& file, const std::string& name) {
  const std::unique_ptr<TensorSource> source = open_tensor_source(file.string());
  if (!source->find(name + ".losses")) return 0;
  const Ran ran = run(llama, file, settings(name), 1);
  const std::vector<float> losses = floats(*source, name + ".losses");
  double mean = 0;
  for (const float loss : losses) mean += static_cast<double>(loss) / static_cast<double>(losses.size());
  EXPECT_NEAR(ran.loss / mean, 1, 1e-5) << name;
  int compared = 0;
  for (const TensorInfo& info : source->tensors()) {
    const std::string begin = name + ".grad.";
    if (!info.name.starts_with(begin)) continue;
    const auto own = ran.gradients.find(info.name.substr(begin.size()));
    if (own == ran.gradients.end()) {
      ADD_FAILURE() << name << ": no gradient of " << info.name;
      continue;
    }
    EXPECT_LT(most_apart(own->second, floats(*source, info.name)), 1e-4) << info.name;
    ++compared;
  }
  return compared;
}

const std::vector<std::string> kNames = {"sigmoid", "sigmoid_smooth", "sigmoid_ftx", "sigmoid_bco", "sigmoid_ld", "hinge",
                                         "ipo",     "orpo",           "simpo",       "kto",         "reward"};
const fs::path kLlama = kSource / "tests/golden/peft/llama", kCases = kSource / "tests/golden/preference/cases.safetensors";

TEST(ObjectivesGolden, CommittedCases) {
  for (const std::string& name : kNames) EXPECT_GE(check_case(kLlama, kCases, name), 14) << name;
}

TEST(ObjectivesGolden, SharedCases) {
  const fs::path shared = kSource / "../shared/golden/peft";
  if (!fs::exists(shared / "preference")) GTEST_SKIP() << "no recorded cases at ../shared/golden/peft/preference";
  int compared = 0;
  for (const std::string& name : kNames) compared += check_case(shared / "llama", shared / "preference/cases.safetensors", name);
  EXPECT_GE(compared, 6 * 28);
}

TEST(ObjectivesGolden, MicroBatchesOfOneAddUpToOne) {
  for (const std::string& name : kNames) {
    if (name == "kto" || name == "sigmoid_bco") continue;  // their means go over the micro-batch
    const Ran whole = run(kLlama, kCases, settings(name), 1), parts = run(kLlama, kCases, settings(name), 3);
    EXPECT_NEAR(parts.loss, whole.loss, 1e-6 * std::abs(whole.loss)) << name;
    for (const auto& [path, gradient] : whole.gradients) EXPECT_LT(most_apart(parts.gradients.at(path), gradient), 1e-4) << name << path;
    for (const auto& [figure, value] : whole.figures.items()) {
      if (figure.starts_with("logits")) continue;  // weighted by labels within a micro-batch
      EXPECT_NEAR(parts.figures.at(figure).get<double>(), value.get<double>(), 1e-5) << name << figure;
    }
  }
}

// The loss along the gradient falls and rises as the gradient says, for methods that no recorded case has. DoRA's backward takes the
// lengths of rows for constants, as in PEFT.
TEST(ObjectivesGolden, WithDoraAndOverQuantisedBases) {
  for (const char* name : {"sigmoid", "hinge", "ipo", "orpo", "simpo", "reward"})
    for (Changes changes : {Changes{true, false}, Changes{false, true}, Changes{true, true}}) {
      const Ran ran = run(kLlama, kCases, settings(name), 1, changes);
      double squares = 0;
      bool magnitudes = false;
      for (const auto& [path, gradient] : ran.gradients) {
        magnitudes = magnitudes || path.find("lora_magnitude_vector") != std::string::npos;
        for (const float v : gradient) squares += static_cast<double>(v) * static_cast<double>(v);
      }
      EXPECT_EQ(magnitudes, changes.dora) << name;
      ASSERT_GT(squares, 1e-6) << name;
      changes.direction = &ran.gradients;
      changes.step = 1e-3 / std::sqrt(squares);
      const double up = run(kLlama, kCases, settings(name), 1, changes).loss;
      changes.step = -changes.step;
      const double down = run(kLlama, kCases, settings(name), 1, changes).loss;
      EXPECT_NEAR((up - down) / (2e-3 * std::sqrt(squares)), 1, changes.dora ? 0.1 : 0.01) << name << changes.dora << changes.quantised;
    }
}

// Labels of one token each, where one forward's rows are enough, and labels that begin alike.
TEST(ObjectivesGolden, Decisions) {
  const fs::path file = kSource / "tests/golden/preference/decisions.safetensors";
  const std::unique_ptr<TensorSource> source = open_tensor_source(file.string());
  TrainConfig config;
  config.stage = "decision";
  for (const char* name : {"single", "spelled"}) {
    EXPECT_EQ(decisions_of(*source, name)[0].samples.size(), std::string(name) == "single" ? 1u : 4u);
    Changes changes;
    changes.decision = name;
    const Ran ran = run(kLlama, file, config, 1, changes);
    const std::vector<float> losses = floats(*source, std::string(name) + ".losses");
    double mean = 0;
    for (const float loss : losses) mean += static_cast<double>(loss) / static_cast<double>(losses.size());
    EXPECT_NEAR(ran.loss / mean, 1, 1e-5) << name;
    int compared = 0;
    const std::string begin = std::string(name) + ".grad.";
    for (const TensorInfo& info : source->tensors())
      if (info.name.starts_with(begin)) {
        EXPECT_LT(most_apart(ran.gradients.at(info.name.substr(begin.size())), floats(*source, info.name)), 1e-4) << info.name;
        ++compared;
      }
    EXPECT_GE(compared, 14) << name;
    const Ran parts = run(kLlama, file, config, 3, changes);
    EXPECT_NEAR(parts.loss, ran.loss, 1e-6 * ran.loss) << name;
    for (const auto& [path, gradient] : ran.gradients) EXPECT_LT(most_apart(parts.gradients.at(path), gradient), 1e-4) << name << path;
    changes.quantised = true;
    const Ran coarse = run(kLlama, file, config, 1, changes);
    double squares = 0;
    for (const auto& [path, gradient] : coarse.gradients)
      for (const float v : gradient) squares += static_cast<double>(v) * static_cast<double>(v);
    changes.direction = &coarse.gradients;
    changes.step = 1e-3 / std::sqrt(squares);
    const double up = run(kLlama, file, config, 1, changes).loss;
    changes.step = -changes.step;
    EXPECT_NEAR((up - run(kLlama, file, config, 1, changes).loss) / (2e-3 * std::sqrt(squares)), 1, 0.01) << name;
  }
}

// KTO's estimate of the divergence takes no gradient, so that only the gradient of a single step can be looked at.
TEST(ObjectivesGolden, KtoWithDoraOverAQuantisedBase) {
  const Ran ran = run(kLlama, kCases, settings("kto"), 1, {true, true});
  EXPECT_GT(ran.loss, 0);
  Changes down{true, true, &ran.gradients, -1e-2};
  EXPECT_LT(run(kLlama, kCases, settings("kto"), 1, down).loss, ran.loss);
}

}  // namespace
}  // namespace loraine::golden_test
