// The folder of encoded sets. Called through prepared.h.
#include "loraine/data/examples/prepared.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/core/batch.h"
#include "loraine/data/arrow/arrow.h"
#include "loraine/data/encode/make_examples.h"
#include "loraine/data/examples/prepared_columns.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/files/staged_files.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

constexpr const char* kEachSet = "validation_";  // before a set's name where each has figures of its own

// Files of one set, as its state.json lists them.
std::vector<std::string> set_files(const std::string& folder) {
  const std::string file = folder + "/state.json";
  const Json state = parse_json_file(file);
  const auto refuse = [&](const std::string& what) { throw Error(ErrorKind::bad_data, file + ": " + what, "prepare the data anew"); };
  if (!state.is_object() || !state.contains("_data_files") || !state["_data_files"].is_array()) refuse("it has no list _data_files");
  for (const char* indices : {"_indices_data_files", "_indices_files"})
    if (state.contains(indices) && state[indices].is_array() && !state[indices].empty())
      refuse("its rows are chosen by indices, which is not read");
  std::vector<std::string> files;
  for (const Json& one : state["_data_files"]) {
    if (!one.is_object() || !one.contains("filename") || !one["filename"].is_string()) refuse("a data file without a name");
    const std::string name = one["filename"];
    if (name.empty() || name.find('/') != std::string::npos || name.front() == '.')
      refuse(fmt::format("the data file `{}` lies elsewhere", name));
    files.push_back(folder + "/" + name);
  }
  return files;
}

// Ids of the examples from `first` on, of whichever kind there are, into the store.
void keep_from(Dataset& set, size_t first, ExampleStore& store) {
  std::vector<Example*> examples;
  for (size_t i = first; i < set.examples.size(); ++i) examples.push_back(&set.examples[i]);
  for (size_t i = first; i < set.pairs.size(); ++i) examples.insert(examples.end(), {&set.pairs[i].chosen, &set.pairs[i].rejected});
  for (size_t i = first; i < set.feedback.size(); ++i) examples.insert(examples.end(), {&set.feedback[i].example, &set.feedback[i].kl});
  store.keep(examples);
}

Dataset read_set(const std::string& folder, DataStage stage, const Encoder& encoder, ExampleStore& store) {
  Dataset set;
  for (const std::string& file : set_files(folder)) {
    const MappedFile mapped(file);
    try {
      ArrowReader reader({reinterpret_cast<const char*>(mapped.data()), mapped.size()});
      PreparedColumns columns(reader.fields(), stage, encoder);
      ArrowBatch batch;
      while (reader.next(batch)) {
        const size_t first = set.size();
        for (int64_t row = 0; row < batch.length; ++row) {
          ++set.num_rows;
          columns.add_row(batch, row, set);
        }
        keep_from(set, first, store);
        release_pages(mapped.data(), mapped.size());
      }
    } catch (const Error& e) { throw with_context(e, file); }
    check_mapped_files();
  }
  return set;
}

void write_set(const std::string& folder, DataStage stage, const Dataset& set, const std::string& split) {
  make_folders(folder);
  const bool packed = std::any_of(set.examples.begin(), set.examples.end(), [](const Example& e) { return !e.starts.empty(); });
  const bool apart = packed && std::none_of(set.examples.begin(), set.examples.end(), [](const Example& e) { return e.sees_all; });
  const std::vector<ArrowWriteColumn> columns = prepared_columns(stage, packed, apart);
  const OrderedJson features = features_json(columns);
  const std::string name = "data-00000-of-00001.arrow";
  DurableFile file(folder + "/" + name);
  ArrowWriter writer(columns, OrderedJson{{"info", {{"features", features}}}}.dump(),
                     [&](std::string_view bytes) { file.write(bytes.data(), bytes.size()); });
  for (const Example& example : set.examples) {
    write_example(writer, stage, example, packed, apart);
    example.let_go();
  }
  for (const PairExample& pair : set.pairs) {
    write_pair(writer, pair);
    pair.let_go();
  }
  for (const FeedbackExample& feedback : set.feedback) {
    write_feedback(writer, feedback);
    feedback.let_go();
  }
  writer.finish();
  file.commit();
  const OrderedJson state = {{"_data_files", OrderedJson::array({{{"filename", name}}})},
                             {"_fingerprint", fmt::format("{:016x}", data_fingerprint(set.examples) ^ set.size())},
                             {"_format_columns", nullptr},
                             {"_format_kwargs", OrderedJson::object()},
                             {"_format_type", nullptr},
                             {"_output_all_columns", false},
                             {"_split", split}};
  write_file(folder + "/state.json", state.dump(2));
  const OrderedJson info = {{"citation", ""}, {"description", ""}, {"features", features}, {"homepage", ""}, {"license", ""}};
  write_file(folder + "/dataset_info.json", info.dump(2));
}

}  // namespace

bool is_prepared(const std::string& folder) {
  std::error_code failed;
  if (!fs::exists(folder, failed)) return false;
  if (fs::is_directory(folder, failed)) {
    settle_staged_files(folder);
    if (fs::exists(folder + "/dataset_dict.json", failed) || fs::exists(folder + "/state.json", failed)) return true;
    if (fs::is_empty(folder, failed)) return false;
  }
  throw Error(ErrorKind::usage, fmt::format("tokenized_path: {} is there and holds no prepared data (dataset_dict.json)", folder),
              "name a folder that prepared data are in, or a new one for them");
}

DataSplit read_prepared(const std::string& folder, DataStage stage, const Encoder& encoder, ExampleStore& store) {
  DataSplit data;
  std::error_code failed;
  if (!fs::exists(folder + "/dataset_dict.json", failed)) {
    data.train = read_set(folder, stage, encoder, store);  // one set alone
    return data;
  }
  const std::string file = folder + "/dataset_dict.json";
  const auto splits = parse_json_file_in_order(file);
  if (!splits.is_object() || !splits.contains("splits") || !splits["splits"].is_array())
    throw Error(ErrorKind::bad_data, file + ": it has no list of splits", "prepare the data anew");
  for (const auto& split : splits["splits"]) {
    const std::string name = split.is_string() ? split.get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos || name.front() == '.')
      throw Error(ErrorKind::bad_data, fmt::format("{}: the split `{}` lies elsewhere", file, name), "prepare the data anew");
    if (name == "train") data.train = read_set(folder + "/" + name, stage, encoder, store);
    else if (name == "validation") data.eval = read_set(folder + "/" + name, stage, encoder, store);
    else if (name.starts_with(kEachSet))
      data.evals.push_back({name.substr(std::string(kEachSet).size()), read_set(folder + "/" + name, stage, encoder, store)});
  }
  if (data.eval.size() > 0) data.evals.clear();  // as LLaMA-Factory chooses
  return data;
}

void write_prepared(const std::string& folder, DataStage stage, const DataSplit& data) {
  std::vector<std::pair<std::string, const Dataset*>> sets;
  if (data.train.size() > 0) sets.emplace_back("train", &data.train);
  if (data.eval.size() > 0) sets.emplace_back("validation", &data.eval);
  for (const NamedSet& one : data.evals) {
    if (one.name.find('/') != std::string::npos)
      throw Error(ErrorKind::usage, fmt::format("tokenized_path keeps sets by their names, and {} is a path", one.name),
                  "name it in dataset_info.json, or leave eval_on_each_dataset out");
    sets.emplace_back(kEachSet + one.name, &one.set);
  }
  StagedFiles files(folder);
  OrderedJson names = OrderedJson::array();
  for (const auto& [name, set] : sets) {
    write_set(files.path() + "/" + name, stage, *set, name);
    names.push_back(name);
  }
  write_file(files.path() + "/dataset_dict.json", OrderedJson{{"splits", names}}.dump());
  files.commit();
}

}  // namespace loraine
