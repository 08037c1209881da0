// Every recorded LLaMA-Factory case (stages sft and predict) of the templates and options built here: equal ids and labels, row by row.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "loraine/core/error.h"
#include "loraine/data/dataset.h"
#include "loraine/data/order/stream.h"
#include "loraine/data/templates/templates.h"
#include "tests/support/sanitized.h"

namespace loraine::encode_golden_test {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

const fs::path kShared = fs::path(LORAINE_SOURCE_DIR) / ".." / "shared";

std::string read_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

std::string unpack(const fs::path& path) {
  const std::string command = "xz -dc '" + path.string() + "'";
  FILE* pipe = popen(command.c_str(), "r");
  std::string bytes;
  char block[1 << 16];
  for (size_t n = 0; pipe && (n = fread(block, 1, sizeof block, pipe)) > 0;) bytes.append(block, n);
  if (pipe) pclose(pipe);
  return bytes;
}

Mixing mixing_of(const std::string& word) {
  return word == "interleave_under" ? Mixing::interleave_under : word == "interleave_over" ? Mixing::interleave_over : Mixing::concat;
}

DataStage stage_of(const std::string& word) {
  return word == "pt" ? DataStage::pretraining : word == "rm" ? DataStage::pairs : word == "kto" ? DataStage::feedback : DataStage::sft;
}

// Options of a case as DataOptions; false where one of them is not built.
bool read_options(const Json& from, DataOptions& options) {
  for (const auto& [key, value] : from.items()) {
    if (key == "cutoff_len") options.cutoff_len = value;
    else if (key == "mask_history") options.mask_history = value;
    else if (key == "train_on_prompt") options.train_on_prompt = value;
    else if (key == "enable_thinking") options.enable_thinking = value.is_null() ? std::nullopt : std::optional<bool>(value.get<bool>());
    else if (key == "default_system") options.default_system = value.get<std::string>();
    else if (key == "split_special_tokens") options.split_special_tokens = value;
    else if (key == "preserve_thinking") options.preserve_thinking = value;
    else if (key == "tool_format") options.tool_format = value.get<std::string>();
    else if (key == "max_samples") options.max_samples = value.get<int64_t>();
    else if (key == "val_size") options.val_size = value;
    else if (key == "seed") options.seed = value;
    else if (key == "packing") options.packing = value.get<bool>();
    else if (key == "mix_strategy") options.mixing = mixing_of(value);
    else if (key == "interleave_probs")
      for (const std::string& number : split_names(value)) options.interleave_probs.push_back(std::stod(number));
    else if (key == "streaming") options.streaming = value;
    else if (key == "buffer_size") options.buffer_size = value;
    else if (key == "dataloader_num_workers") options.shards = std::max<int64_t>(value.get<int64_t>(), 1);
    else if (key == "max_steps") continue;
    else if (key == "neat_packing") options.neat_packing = value;
    else if (key == "preprocessing_batch_size") options.preprocessing_batch_size = value;
    else if (key != "add_tokens" && key != "add_special_tokens") return false;
  }
  return true;
}

// Of a packed example: what LLaMA-Factory says of its samples, by positions and by a mask that numbers them (neat) or holds ones.
bool same_samples(const Example& got, const Json& wanted) {
  std::vector<int32_t> positions(got.input_ids.size(), 0), mask(got.input_ids.size(), got.sees_all ? 1 : 0);
  const size_t end = got.input_ids.size() - static_cast<size_t>(got.padding);
  for (size_t sample = 0; sample < got.starts.size(); ++sample) {
    const size_t first = static_cast<size_t>(got.starts[sample]);
    const size_t last = sample + 1 < got.starts.size() ? static_cast<size_t>(got.starts[sample + 1]) : end;
    for (size_t i = first; i < last; ++i) {
      positions[i] = static_cast<int32_t>(i - first);
      if (!got.sees_all) mask[i] = static_cast<int32_t>(sample + 1);
    }
  }
  return positions == wanted["position_ids"].get<std::vector<int32_t>>() && mask == wanted["attention_mask"].get<std::vector<int32_t>>();
}

std::string compare(const std::vector<Example>& got, const Json& wanted) {
  if (got.size() != wanted.size()) return "examples: " + std::to_string(got.size()) + " for " + std::to_string(wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].input_ids != wanted[i]["input_ids"].get<std::vector<int32_t>>())
      return "ids of example " + std::to_string(i) + ": " + Json(got[i].input_ids).dump() + " for " + wanted[i]["input_ids"].dump();
    if (wanted[i].contains("labels") && got[i].labels != wanted[i]["labels"].get<std::vector<int32_t>>())
      return "labels of example " + std::to_string(i);
    if (wanted[i].contains("position_ids") && !same_samples(got[i], wanted[i]))
      return "samples of example " + std::to_string(i) + ": " + Json(got[i].starts).dump() + " for " + wanted[i].dump();
  }
  return {};
}

// Ids and labels under names that begin with `prefix`.
std::string compare_sample(const Example& got, const Json& wanted, const std::string& prefix) {
  if (got.input_ids != wanted[prefix + "input_ids"].get<std::vector<int32_t>>())
    return prefix + "ids: " + Json(got.input_ids).dump() + " for " + wanted[prefix + "input_ids"].dump();
  return got.labels == wanted[prefix + "labels"].get<std::vector<int32_t>>() ? "" : prefix + "labels";
}

std::string compare_set(const Dataset& got, const Json& wanted) {
  if (got.pairs.empty() && got.feedback.empty()) return compare(got.examples, wanted);
  if (got.size() != wanted.size()) return "examples: " + std::to_string(got.size()) + " for " + std::to_string(wanted.size());
  std::string differences;
  for (size_t i = 0; i < wanted.size() && differences.empty(); ++i) {
    if (!got.pairs.empty())
      differences =
          compare_sample(got.pairs[i].chosen, wanted[i], "chosen_") + compare_sample(got.pairs[i].rejected, wanted[i], "rejected_");
    else
      differences = compare_sample(got.feedback[i].example, wanted[i], "") + compare_sample(got.feedback[i].kl, wanted[i], "kl_") +
                    (got.feedback[i].desirable == wanted[i]["kto_tags"].get<bool>() ? "" : "tag");
  }
  return differences;
}

std::string jinja_source(const fs::path& folder, const Json& config) {
  const std::string file = read_bytes(folder / "chat_template.jinja");
  return file.empty() ? config.value("chat_template", "") : file;
}

// As pandas writes it.
std::string csv_text(const Json& rows) {
  std::string text;
  const auto cell = [&](std::string value) {
    for (size_t at = 0; (at = value.find('"', at)) != std::string::npos; at += 2) value.insert(at, "\"");
    text += (text.empty() || text.back() == '\n' ? "\"" : ",\"") + value + "\"";
  };
  for (const auto& [name, value] : rows[0].items()) cell(name);
  for (const Json& row : rows) {
    text += "\n";
    for (const auto& [name, value] : row.items()) cell(value.is_null() ? "" : value.get<std::string>());
  }
  return text + "\n";
}

struct Cases {
  fs::path folder = fs::temp_directory_path() / ("loraine_encode_golden_" + std::to_string(::getpid()));
  std::map<std::string, std::string> tokenizer_json;
  std::map<std::string, std::unique_ptr<Tokenizer>> shared;  // reused by cases that add no token
  Cases() { fs::create_directories(folder); }
  ~Cases() { fs::remove_all(folder); }

  std::unique_ptr<Tokenizer> tokenizer(const std::string& name) {
    auto& bytes = tokenizer_json[name];
    if (bytes.empty()) bytes = unpack(kShared / "tokenizers" / name / "tokenizer.json.xz");
    return Tokenizer::from_json(bytes, name);
  }

  // Writes the data sets and reads them back encoded.
  // predict: prompts and answers in the place of examples.
  DataSplit open(const Json& c, DataOptions options, bool predict) {
    Json info = Json::object();
    for (const Json& set : c["datasets"]) {
      const std::string name = set["name"], file = name + "." + set["file"].get<std::string>();
      Json entry = set["info"];
      entry["file_name"] = file;
      info[name] = entry;
      (predict ? options.eval_datasets : options.datasets).push_back(name);
      Json rows = Json::array();
      for (const Json& row : set["rows"]) rows.push_back(row);
      std::ofstream out(folder / file, std::ios::binary);
      if (set["file"] == "json") out << rows.dump(1);
      else if (set["file"] == "csv") out << csv_text(rows);
      else if (set["file"] == "txt")
        for (const Json& row : rows) out << (row.is_string() ? row : row["text"]).get<std::string>() << "\n";
      else
        for (const Json& row : rows) out << row.dump() << "\n";
    }
    std::ofstream(folder / "dataset_info.json") << info.dump();
    options.dataset_dir = folder.string();
    options.skip_bad_rows = 100;
    options.accept_untrained = true;
    std::unique_ptr<Tokenizer> own;
    Tokenizer* use = nullptr;
    const std::string name = c["tokenizer"];
    const bool adds = c["options"].contains("add_tokens") || c["options"].contains("add_special_tokens");
    const std::string key = name + "/" + *options.template_name;
    if (adds) {
      own = tokenizer(name);
      use = own.get();
      for (const char* option : {"add_tokens", "add_special_tokens"})
        if (c["options"].contains(option))
          for (const auto& token : split_names(c["options"][option])) own->add_token(token, std::string(option) == "add_special_tokens");
    } else {
      if (!shared[key]) shared[key] = tokenizer(name);
      use = shared[key].get();
    }
    const Json config = Json::parse(read_bytes(kShared / "tokenizers" / name / "tokenizer_config.json"));
    auto special = read_special_tokens(config, *use);
    std::unique_ptr<ChatTemplate> chat;
    if (const auto source = jinja_source(kShared / "tokenizers" / name, config); c["template"].is_null() && !source.empty())
      chat = std::make_unique<ChatTemplate>(source, config, name);
    DataSplit data;
    if (options.streaming) {
      StreamedData streamed = open_stream(options, use, chat.get(), special);
      data = std::move(streamed.rest);
      while (auto example = streamed.train->next()) data.train.examples.push_back(std::move(*example));
    } else if (!predict) data = open_data(options, use, chat.get(), special);
    else
      for (const Prompt& prompt : open_prompts(options, use, chat.get(), special))
        data.train.examples.push_back({prompt.input_ids, prompt.label_ids});
    if (c.contains("tokenizer_state")) {
      const Json& state = c["tokenizer_state"];
      if (!state["eos_id"].is_null()) { EXPECT_EQ(special.eos.value_or(-1), state["eos_id"].get<int32_t>()) << c["case"]; }
    }
    return data;
  }
};

TEST(EncodeGolden, RecordedCases) {
  const fs::path file = kShared / "golden" / "llamafactory" / "encode.jsonl.xz";
  if (!fs::exists(file)) GTEST_SKIP() << "shared golden cases are absent";
  Cases cases;
  std::istringstream lines(unpack(file));
  std::map<std::string, int> not_covered;
  int equal = 0, prompts_equal = 0, refused = 0, number = 0;
  for (std::string line; std::getline(lines, line);) {
    if (kSanitized && ++number % 12) continue;
    Json c = Json::parse(line);
    const std::string name = c["case"];
    DataOptions options;
    options.stage = stage_of(c["stage"]);
    const bool predict = c["stage"] == "predict";
    if (!read_options(c["options"], options)) {
      ++not_covered["option not built"];
      continue;
    }
    if (options.streaming && !c["options"].contains("max_steps")) {
      ++not_covered["rule between settings (cli/arguments_test)"];
      continue;
    }
    options.template_name = c["template"].is_null() ? "derived" : c["template"].get<std::string>();
    options.today = c.value("today", "");
    const bool has_result = c.contains("result");
    bool files = true;
    for (const Json& set : c["datasets"]) files &= set["file"] != "parquet";
    if (!files) {
      ++not_covered["parquet"];
      continue;
    }
    try {
      const DataSplit data = cases.open(c, options, predict);
      if (!has_result) {
        ADD_FAILURE() << name << ": should be refused: " << c["error"];
        continue;
      }
      const bool split = c["result"].is_object();
      std::string difference = compare_set(data.train, split ? c["result"]["train"] : c["result"]);
      if (difference.empty() && split) difference = compare_set(data.eval, c["result"]["eval"]);
      EXPECT_EQ(difference, "") << name;
      (predict ? prompts_equal : equal) += difference.empty();
    } catch (const Error& e) {
      EXPECT_FALSE(has_result) << name << ": " << e.what();
      refused += !has_result;
    }
  }
  std::printf("encode.jsonl: %d cases equal, %d refused as recorded\n", equal, refused);
  std::printf("encode.jsonl: %d cases of prompts for generation equal\n", prompts_equal);
  for (const auto& [why, count] : not_covered) std::printf("  not covered: %-20s %d\n", why.c_str(), count);
  EXPECT_GE(equal, kSanitized ? 10 : 487);  // every case of text and of these options
  if (!kSanitized) { EXPECT_GE(prompts_equal, 24); }
}

TEST(EncodeGolden, RecordedRuns) {
  const fs::path runs = kShared / "golden" / "llamafactory" / "runs";
  if (!fs::exists(runs)) GTEST_SKIP() << "shared golden cases are absent";
  int checked = 0;
  for (const char* run : {"sft_lora", "sft_lora_qwen3", "sft_lora_two_targets", "sft_lora_accumulation", "sft_lora_batch_accumulation",
                          "sft_rslora", "sft_shuffled", "sft_evaluation", "sft_val_size", "sft_early_stopping", "sft_resume",
                          "sft_train_on_prompt", "sft_multiturn_mask_history", "sft_packing", "sft_neat_packing", "pt_lora"}) {
    const std::string yaml = read_bytes(runs / run / "train.yaml");
    const auto value = [&](const std::string& key) -> std::string {
      const size_t at = ("\n" + yaml).find("\n" + key + ": ");
      if (at == std::string::npos) return {};
      const size_t from = at + key.size() + 2;
      return yaml.substr(from, yaml.find('\n', from) - from);
    };
    DataOptions options;
    options.datasets = split_names(value("dataset"));
    options.eval_datasets = split_names(value("eval_dataset"));
    options.dataset_dir = (runs / run / "data").string();
    options.template_name = value("template");
    options.stage = stage_of(value("stage"));
    options.cutoff_len = std::stoll(value("cutoff_len"));
    options.mask_history = value("mask_history") == "true";
    options.train_on_prompt = value("train_on_prompt") == "true";
    options.neat_packing = value("neat_packing") == "true";
    if (!value("packing").empty()) options.packing = value("packing") == "true";
    if (!value("val_size").empty()) options.val_size = std::stod(value("val_size"));
    const fs::path model = runs / run / value("model_name_or_path");
    const auto tokenizer = Tokenizer::from_json(read_bytes(model / "tokenizer.json"), "tokenizer.json");
    auto special = read_special_tokens(Json::parse(read_bytes(model / "tokenizer_config.json")), *tokenizer);
    const DataSplit data = open_data(options, tokenizer.get(), nullptr, special);
    Json train = Json::array(), eval = Json::array();
    std::istringstream lines(read_bytes(runs / run / "encoded.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      Json sample = Json::parse(line);
      (sample["set"] == "train" ? train : eval).push_back(sample);
    }
    EXPECT_EQ(compare(data.train.examples, train), "") << run;
    EXPECT_EQ(compare(data.eval.examples, eval), "") << run;
    ++checked;
  }
  EXPECT_EQ(checked, 16);
}

}  // namespace
}  // namespace loraine::encode_golden_test
