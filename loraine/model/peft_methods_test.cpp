// PEFT's methods beside LoRA over tiny models, as PEFT computed them (tests/golden/make_method_cases.py): logits, loss, gradients of all
// parameters, weights with the adapter merged in, runs of 12 steps; of rows in one batch each with its own adapter, or none.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/io/model_files.h"
#include "loraine/io/open_tensors.h"
#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "loraine/model/load.h"

namespace loraine::peft_methods_test {
namespace {

namespace fs = std::filesystem;
const fs::path kGolden = fs::path(LORAINE_SOURCE_DIR) / "tests/golden/peft";

struct MethodCase {
  explicit MethodCase(const std::string& name) : folder(kGolden / "methods" / name) {
    std::ifstream(folder / "base.txt") >> base >> bits;
    recorded = open_tensor_source((folder / "out.safetensors").string());
    batches = open_tensor_source((kGolden / base / "batches.safetensors").string());
  }
  Model model(std::optional<Quantisation> quantisation = {}, bool bf16 = false) const {
    ModelFiles files = open_model_files((kGolden / base / "model").string());
    if (bits) quantisation = Quantisation{Dtype::NF4, true};
    return load_model(files, {.bf16 = bf16, .quantisation = quantisation});
  }
  std::vector<float> floats(const std::string& name) const {
    const TensorInfo* info = recorded->find(name);
    if (!info) return {};
    std::vector<float> out(static_cast<size_t>(Tensor(nullptr, Dtype::F32, info->shape).numel()));
    recorded->read(*info, Tensor(out.data(), Dtype::F32, info->shape));
    return out;
  }
  std::vector<int64_t> integers(const std::string& name) const {
    const TensorSource& source = recorded->find(name) ? *recorded : *batches;
    const Tensor t = source.map(*source.find(name));
    return {static_cast<const int64_t*>(t.data), static_cast<const int64_t*>(t.data) + t.numel()};
  }
  fs::path folder;
  std::string base;
  int bits = 0;
  std::shared_ptr<const TensorSource> recorded, batches;
};

// Largest difference over the largest magnitude.
double apart(const std::vector<float>& ours, const std::vector<float>& theirs) {
  if (ours.size() != theirs.size()) return 1e9;
  double largest = 1e-12, worst = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    largest = std::max(largest, static_cast<double>(std::abs(theirs[i])));
    worst = std::max(worst, static_cast<double>(std::abs(ours[i] - theirs[i])));
  }
  return worst / largest;
}

// The batch of a case, a forward with a set of each row's own, and the backward of the mean cross-entropy.
struct MethodPass {
  // number: of the batch among those that a run is made of; none: the case's own
  MethodPass(const Model& m, const MethodCase& c, std::vector<AdapterSet*> of_rows, bool training, const std::string& number = "")
      : model(m) {
    const std::vector<int64_t> ids = c.integers("input_ids" + number), labels = c.integers("labels" + number),
                               mask = c.integers("attention_mask" + number);
    const int64_t columns = static_cast<int64_t>(ids.size()) / 3;
    std::vector<const AdapterSet*> sets;
    for (int64_t row = 0; row < 3; ++row) {
      const int64_t start = batch.rows();
      int64_t length = 0;
      while (length < columns && mask[static_cast<size_t>(row * columns + length)]) ++length;
      for (int64_t t = 0; t < length; ++t) {
        const size_t at = static_cast<size_t>(row * columns + t);
        batch.tokens.push_back(static_cast<int32_t>(ids[at]));
        batch.positions.push_back(static_cast<int32_t>(t));
        targets.push_back(t + 1 < length ? static_cast<int32_t>(labels[at + 1]) : -100);
        from.push_back(at);
      }
      batch.sequences.push_back({start, length, start, length});
      AdapterSet* set = of_rows[static_cast<size_t>(row) % of_rows.size()];
      if (!set) continue;
      const auto known = std::ranges::find(sets, set);
      batch.adapter_rows.push_back({start, length, static_cast<int>(known - sets.begin())});
      if (known == sets.end()) sets.push_back(set);
    }
    if (training) batch.adapter_rows = {{0, batch.rows(), 0}};
    Arena dry;
    plan_activations(model, batch.rows(), training, sets, dry);
    Arena memory(dry.peak()), scratch(scratch_bytes(model, batch.rows(), training, sets));
    Activations activations = plan_activations(model, batch.rows(), training, sets, memory);
    Pass pass{&activations, nullptr, sets, &scratch, training};
    Context ctx;
    decoder_forward(ctx, model, batch, pass);
    const int64_t V = model.config.vocab_size;
    logits.resize(static_cast<size_t>(batch.rows() * V));
    Arena none(1 << 16);
    head_logits(ctx, model, Tensor(logits.data(), Dtype::F32, {batch.rows(), V}), activations.hidden, nullptr, none, {});
    if (!training) return;
    std::vector<float> d_logits(logits.size());
    const int64_t count = std::ranges::count_if(targets, [](int32_t label) { return label >= 0; });
    for (int64_t t = 0; t < batch.rows(); ++t) {
      const int32_t label = targets[static_cast<size_t>(t)];
      if (label < 0) continue;
      const float* row = logits.data() + t * V;
      const double most = static_cast<double>(*std::max_element(row, row + V));
      double sum = 0;
      for (int64_t v = 0; v < V; ++v) sum += std::exp(static_cast<double>(row[v]) - most);
      loss -= (static_cast<double>(row[label]) - most - std::log(sum)) / static_cast<double>(count);
      for (int64_t v = 0; v < V; ++v)
        d_logits[static_cast<size_t>(t * V + v)] =
            static_cast<float>((std::exp(static_cast<double>(row[v]) - most) / sum - (v == label ? 1 : 0)) / static_cast<double>(count));
    }
    std::vector<float> d(static_cast<size_t>(batch.rows() * model.config.hidden_size));
    const Tensor d_hidden(d.data(), Dtype::F32, {batch.rows(), model.config.hidden_size});
    head_backward(ctx, model, nullptr, d_hidden, Tensor(d_logits.data(), Dtype::F32, {batch.rows(), V}), activations.hidden, {}, none);
    decoder_backward(ctx, model, batch, pass, *of_rows[0], d_hidden);
    of_rows[0]->finish_gradients(ctx);
  }
  // Of the recorded logits the rows that are tokens.
  std::vector<float> rows_of(const std::vector<float>& padded) const {
    std::vector<float> out;
    for (const size_t at : from)
      out.insert(out.end(), padded.begin() + static_cast<int64_t>(at) * model.config.vocab_size,
                 padded.begin() + static_cast<int64_t>(at + 1) * model.config.vocab_size);
    return out;
  }
  const Model& model;
  Batch batch;
  std::vector<int32_t> targets;
  std::vector<size_t> from;
  std::vector<float> logits;
  double loss = 0;
};

std::vector<std::string> all_cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGolden / "methods"))
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  std::ranges::sort(names);
  return names;
}

std::string without_default(std::string name) {
  if (const size_t at = name.find(".default"); at != name.npos) name.erase(at, 8);
  return name;
}

TEST(PeftMethods, LogitsLossAndGradients) {
  const std::vector<std::string> names = all_cases();
  EXPECT_GE(names.size(), 31u);
  for (const std::string& name : names) {
    const MethodCase c(name);
    Model model = c.model();
    AdapterSet run = load_adapter(model, (c.folder / "adapter").string());
    const MethodPass forward(model, c, {&run}, false);
    EXPECT_LT(apart(forward.logits, forward.rows_of(c.floats("logits"))), 1e-5) << name;
    AdapterSet set = load_adapter_to_train(model, (c.folder / "adapter").string());
    const MethodPass pass(model, c, {&set}, true);
    EXPECT_LT(apart(pass.logits, pass.rows_of(c.floats("logits"))), 1e-5) << name;
    EXPECT_NEAR(pass.loss, static_cast<double>(c.floats("loss").at(0)), 1e-5) << name;
    int compared = 0;
    for (const Parameter& p : set.parameters()) {
      if (!p.gradient.data) continue;
      std::vector<float> theirs;
      for (const TensorInfo& info : c.recorded->tensors())
        if (without_default(info.name) == "grad." + p.name) theirs = c.floats(info.name);
      const std::vector<float> ours(p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
      EXPECT_LT(apart(ours, theirs), 2e-5) << name << " " << p.name;
      ++compared;
    }
    EXPECT_GT(compared, 3) << name;
  }
}

TEST(PeftMethods, MergedWeights) {
  for (const std::string& name : all_cases()) {
    const MethodCase c(name);
    if (c.bits || !fs::exists(c.folder / "merged.safetensors")) continue;
    const auto merged = open_tensor_source((c.folder / "merged.safetensors").string());
    Model model = c.model();
    AdapterSet set = load_adapter(model, (c.folder / "adapter").string());
    merge_into_weights(model.sites_to_change(), set);
    int compared = 0;
    for (const Weight* site : model.sites())
      for (const WeightPart& part : site->parts)
        for (const char* kind : {".weight", ".bias"}) {
          const TensorInfo* info = merged->find(part.name + kind);
          if (!info || (set.dense && kind == std::string(".bias"))) continue;
          std::vector<float> theirs(static_cast<size_t>(Tensor(nullptr, Dtype::F32, info->shape).numel())), ours;
          merged->read(*info, Tensor(theirs.data(), Dtype::F32, info->shape));
          const float* values = kind == std::string(".bias") ? part.bias : part.weight.f32();
          ours.assign(values, values + theirs.size());
          EXPECT_LT(apart(ours, theirs), 1e-6) << name << " " << part.name << kind;
          ++compared;
        }
    EXPECT_GT(compared, 3) << name;
  }
}

// The recorded run: AdamW of torch with a cosine schedule after 4 steps of warm-up, gradients clipped at 1.
struct RecordedRun {
  std::vector<std::vector<double>> m, v;
  double norm = 0;
  void step(std::vector<Parameter>& parameters, int64_t t, int64_t steps) {
    m.resize(parameters.size());
    v.resize(parameters.size());
    double squares = 0;
    for (const Parameter& p : parameters)
      for (int64_t i = 0; i < p.gradient.numel(); ++i) squares += std::pow(static_cast<double>(p.gradient.f32()[i]), 2);
    norm = std::sqrt(squares);
    const double clip = std::min(1.0, 1 / (norm + 1e-6)), done = static_cast<double>(t - 1);
    const double rate = 2e-3 * (done < 4 ? done / 4 : 0.5 * (1 + std::cos(std::acos(-1.0) * (done - 4) / static_cast<double>(steps - 4))));
    for (size_t k = 0; k < parameters.size(); ++k) {
      const Tensor value = parameters[k].value, gradient = parameters[k].gradient;
      m[k].resize(static_cast<size_t>(value.numel()));
      v[k].resize(m[k].size());
      for (size_t i = 0; i < m[k].size(); ++i) {
        const double g = static_cast<double>(gradient.f32()[i]) * clip;
        m[k][i] += 0.1 * (g - m[k][i]);
        v[k][i] += 0.001 * (g * g - v[k][i]);
        const double down = std::sqrt(v[k][i] / (1 - std::pow(0.999, t))) + 1e-8;
        value.f32()[i] =
            static_cast<float>(static_cast<double>(value.f32()[i]) * (1 - rate * 0.01) - rate * m[k][i] / (1 - std::pow(0.9, t)) / down);
        gradient.f32()[i] = 0;
      }
    }
  }
};

TEST(PeftMethods, TrainsAsPeft) {
  for (const std::string& name : all_cases()) {
    const MethodCase c(name);
    Model model = c.model();
    AdapterSet set = load_adapter_to_train(model, (c.folder / "init").string());
    std::vector<Parameter> parameters = set.parameters();
    std::erase_if(parameters, [](const Parameter& p) { return !p.gradient.data; });
    const nlohmann::json log = nlohmann::json::parse(std::ifstream(c.folder / "train.json"))["log"];
    RecordedRun run;
    Context ctx;
    for (size_t s = 0; s < log.size(); ++s) {
      const MethodPass pass(model, c, {&set}, true, std::to_string(s % 3));
      EXPECT_NEAR(pass.loss, log[s]["loss"].get<double>(), 2e-5) << name << " step " << s;
      run.step(parameters, static_cast<int64_t>(s) + 1, static_cast<int64_t>(log.size()));
      EXPECT_NEAR(run.norm, log[s]["grad_norm"].get<double>(), 1e-4 * log[s]["grad_norm"].get<double>()) << name << " step " << s;
      set.refresh(ctx);
    }
    const auto final = open_tensor_source((c.folder / "final/adapter_model.safetensors").string());
    for (const Parameter& p : parameters) {
      const TensorInfo* info = final->find(p.name);
      ASSERT_TRUE(info) << name << " " << p.name;
      std::vector<float> theirs(static_cast<size_t>(p.value.numel()));
      final->read(*info, Tensor(theirs.data(), Dtype::F32, info->shape));
      for (size_t i = 0; i < theirs.size(); ++i) ASSERT_NEAR(p.value.f32()[i], theirs[i], 2e-5) << name << " " << p.name << " " << i;
    }
  }
}

// A new adapter of each method changes nothing (but C3A's default start does, as in PEFT), and starts where PEFT's does where that draws no
// numbers, or draws whole ones.
TEST(PeftMethods, StartsAtTheBase) {
  for (const std::string& name : all_cases()) {
    const MethodCase c(name);
    Model model = c.model();
    LoraConfig config = read_lora_config((c.folder / "init").string());
    AdapterSet set = attach_adapter(model, config, true);
    start_adapter(set, model, config, 7);
    const MethodPass plain(model, c, {nullptr}, false), with(model, c, {&set}, false);
    const double change = apart(with.logits, plain.logits);
    EXPECT_TRUE(name == "c3a" ? change > 1e-3 : change < 1e-6) << name << " " << change;
    const std::string setting = config.method->kind->setting;
    if (setting != "oft" && setting != "ia3" && setting != "miss" && setting != "shira" && setting != "boft") continue;
    const auto init = open_tensor_source((c.folder / "init/adapter_model.safetensors").string());
    for (const Parameter& p : set.parameters()) {
      if (p.value.dtype == Dtype::I32) {
        std::vector<int32_t> theirs(static_cast<size_t>(p.value.numel()));
        init->read(*init->find(p.name), Tensor(theirs.data(), Dtype::I32, init->find(p.name)->shape));
        const int32_t* ours = static_cast<const int32_t*>(p.value.data);
        EXPECT_EQ(std::vector<int32_t>(ours, ours + p.value.numel()), theirs) << name << " " << p.name;
        continue;
      }
      std::vector<float> theirs(static_cast<size_t>(p.value.numel()));
      init->read(*init->find(p.name), Tensor(theirs.data(), Dtype::F32, init->find(p.name)->shape));
      EXPECT_EQ(std::vector<float>(p.value.f32(), p.value.f32() + p.value.numel()), theirs) << name << " " << p.name;
    }
  }
}

// Each method over a base in codes is that over the values that the codes stand for.
TEST(PeftMethods, OverCodes) {
  for (const std::string name : {"ia3_inputs", "oft", "oft_shared", "vera", "loha", "lokr", "miss", "miss_mini", "miss_bat", "c3a", "hira",
                                 "shira", "gralora", "randlora", "fourierft", "boft"})
    for (const Quantisation how : {Quantisation{Dtype::NF4, true}, Quantisation{Dtype::FP4, false}, Quantisation{Dtype::INT8, false}}) {
      const MethodCase c(name);
      Model codes = c.model(how), whole = c.model();
      const std::vector<Weight*> from = codes.sites_to_change(), to = whole.sites_to_change();
      int dequantised = 0;
      for (size_t s = 0; s < from.size(); ++s)
        for (size_t p = 0; p < from[s]->parts.size(); ++p) {
          const WeightPart& part = from[s]->parts[p];
          if (!part.quant_state) continue;
          add_to_weight(
              to[s]->parts[p],
              [&](const Tensor& sum) {
                Buffer room(sum.bytes());
                const Tensor rows = weight_rows(part, 0, sum.rows(), Tensor(room.data(), Dtype::F32, {sum.rows(), sum.cols()}));
                std::copy_n(rows.f32(), sum.numel(), sum.f32());
              },
              false);
          ++dequantised;
        }
      EXPECT_GT(dequantised, 6);
      AdapterSet one = load_adapter_to_train(codes, (c.folder / "adapter").string()),
                 two = load_adapter_to_train(whole, (c.folder / "adapter").string());
      const MethodPass ours(codes, c, {&one}, true), theirs(whole, c, {&two}, true);
      EXPECT_LT(apart(ours.logits, theirs.logits), 1e-5) << name;
      const std::vector<Parameter> a = one.parameters(), b = two.parameters();
      for (size_t i = 0; i < a.size(); ++i)
        if (a[i].gradient.data) {
          EXPECT_LT(apart({a[i].gradient.f32(), a[i].gradient.f32() + a[i].gradient.numel()},
                          {b[i].gradient.f32(), b[i].gradient.f32() + b[i].gradient.numel()}),
                    2e-5)
              << name << " " << a[i].name;
        }
    }
}

// With activations in bf16 the memory that is planned is enough, and the loss is near that in f32.
TEST(PeftMethods, InBf16) {
  for (const std::string& name : all_cases()) {
    const MethodCase c(name);
    if (c.bits) continue;  // weights in bf16 have other codes
    Model narrow = c.model({}, true), wide = c.model();
    AdapterSet one = load_adapter_to_train(narrow, (c.folder / "adapter").string()),
               two = load_adapter_to_train(wide, (c.folder / "adapter").string());
    const MethodPass ours(narrow, c, {&one}, true), theirs(wide, c, {&two}, true);
    EXPECT_NEAR(ours.loss, theirs.loss, 0.02) << name;
    const std::vector<Parameter> a = one.parameters(), b = two.parameters();
    double apart = 0, size = 0;
    for (size_t i = 0; i < a.size(); ++i)
      for (int64_t k = 0; a[i].gradient.data && k < a[i].gradient.numel(); ++k) {
        apart += std::pow(static_cast<double>(a[i].gradient.f32()[k] - b[i].gradient.f32()[k]), 2);
        size += std::pow(static_cast<double>(b[i].gradient.f32()[k]), 2);
      }
    EXPECT_LT(std::sqrt(apart / size), 0.05) << name;
  }
}

// Logits and gradients have the same bits on any number of threads.
TEST(PeftMethods, OnAnyNumberOfThreads) {
  const int threads = omp_get_max_threads();
  for (const std::string& name : all_cases()) {
    const MethodCase c(name);
    Model model = c.model();
    const auto bits = [&](int n) {
      omp_set_num_threads(n);
      AdapterSet set = load_adapter_to_train(model, (c.folder / "adapter").string());
      std::vector<float> all = MethodPass(model, c, {&set}, true).logits;
      for (const Parameter& p : set.parameters())
        if (p.gradient.data) all.insert(all.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
      omp_set_num_threads(threads);
      return all;
    };
    const std::vector<float> alone = bits(1);
    for (const int n : {2, 3, 5}) EXPECT_EQ(bits(n), alone) << name << " " << n;
  }
}

// Rows of several adapters and of the base in one batch have the bits that they have alone.
TEST(PeftMethods, SwitchedByRow) {
  for (const std::string base : {"llama3", "qwen2"}) {
    std::vector<std::string> names;
    for (const std::string& name : all_cases())
      if (const MethodCase c(name); c.base == base && !c.bits) names.push_back(name);
    const MethodCase first(names.at(0));
    Model model = first.model();
    std::vector<AdapterSet> sets;
    for (const std::string& name : names) sets.push_back(load_adapter(model, (MethodCase(name).folder / "adapter").string()));
    const MethodPass plain(model, first, {nullptr}, false);
    for (size_t i = 0; i < sets.size(); ++i) {
      AdapterSet& other = sets[(i + 1) % sets.size()];
      const MethodPass mixed(model, first, {&sets[i], nullptr, &other}, false), one(model, first, {&sets[i]}, false),
          two(model, first, {&other}, false);
      const int64_t V = model.config.vocab_size;
      for (size_t row = 0; row < 3; ++row) {
        const Sequence& s = mixed.batch.sequences[row];
        const MethodPass& alone = row == 0 ? one : row == 1 ? plain : two;
        const auto begin = mixed.logits.begin() + s.start * V, end = begin + s.length * V;
        const std::vector<float> here(begin, end),
            there(alone.logits.begin() + s.start * V, alone.logits.begin() + (s.start + s.length) * V);
        EXPECT_LT(apart(here, there), 1e-5) << names[i] << " row " << row;
      }
    }
  }
}

}  // namespace
}  // namespace loraine::peft_methods_test
