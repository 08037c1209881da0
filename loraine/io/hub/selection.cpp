#include "loraine/io/hub/selection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"
#include "loraine/core/missing_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

// What model_files.cpp, chat_templates.cpp and training_record.cpp read beside weights.
constexpr const char* kText[] = {"tokenizer_config.json", "tokenizer.json",      "special_tokens_map.json",
                                 "added_tokens.json",     "vocab.json",          "merges.txt",
                                 "tokenizer.model",       "chat_template.jinja", "loraine.json",
                                 "qwen.tiktoken",         "tiktoken.model",      "tekken.json"};
constexpr const char* kLicences[] = {"license", "licence", "notice", "copying", "use_policy"};
constexpr const char* kDataEndings[] = {".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".arrow"};
constexpr const char* kPackings[] = {"", ".gz", ".zst"};

bool is_licence(const std::string& name) {
  const std::string small = lower_case(name);
  return std::any_of(std::begin(kLicences), std::end(kLicences), [&](const char* start) { return small.starts_with(start); });
}

bool is_data(const std::string& name) {
  const std::string small = lower_case(name);
  for (const char* ending : kDataEndings)
    for (const char* packing : kPackings)
      if (small.ends_with(std::string(ending) + packing)) return true;
  return false;
}

std::string held(const Listing& listing) {
  std::vector<std::string> names;
  for (const ListedFile& file : listing.files)
    if (names.size() < 8) names.push_back(file.path);
  return fmt::format("{}{}", fmt::join(names, ", "),
                     listing.files.size() > names.size() ? fmt::format(" and {} more", listing.files.size() - names.size()) : "");
}

// Takes what there is, and notes what there is not.
struct Taker {
  const Listing& listing;
  std::string folder;  // with / at its end, or empty
  Selection selection = {};
  bool take(const std::string& name) {
    const bool there = listing.find(folder + name) != nullptr;
    (there ? selection.files : selection.absent).push_back(folder + name);
    return there;
  }
  // The first of them, and its shards.
  bool take_weights(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (listing.find(folder + name) == nullptr) continue;
      selection.files.push_back(folder + name);
      if (std::string(name).ends_with(".index.json")) selection.index = folder + name;
      return true;
    }
    return false;
  }
};

void take_text(Taker& taker) {
  for (const char* name : kText) taker.take(name);
  for (const ListedFile& file : taker.listing.files)
    if (file.path.starts_with(taker.folder + "additional_chat_templates/") && file.path.ends_with(".jinja"))
      taker.selection.files.push_back(file.path);
}

Selection select_model(const Listing& listing, const std::string& what) {
  Taker taker{listing, ""};
  if (!listing.find("config.json")) {
    if (listing.find("adapter_config.json")) return {{"adapter_config.json"}, "", {}};  // whoever opens it says what it is
    std::vector<std::string> gguf;
    for (const ListedFile& file : listing.files)
      if (file.path.ends_with(".gguf") && file.path.find('/') == file.path.npos) gguf.push_back(file.path);
    if (gguf.size() == 1) return {gguf, "", {}};
    if (gguf.empty())
      throw Error(
          ErrorKind::bad_data,
          fmt::format("{}: is no model that can be loaded: it has neither config.json nor a .gguf file, but {}", what, held(listing)),
          "give the id of a Hugging Face model");
    throw Error(ErrorKind::bad_data, fmt::format("{}: holds {} GGUF files: {}", what, gguf.size(), fmt::join(gguf, ", ")),
                fmt::format("fetch one and give its path: hf download {} {}", what.substr(0, what.find(' ')), gguf[0]));
  }
  taker.take("config.json");
  taker.take("generation_config.json");
  take_text(taker);
  for (const ListedFile& file : listing.files)
    if (file.path.find('/') == file.path.npos && is_licence(file.path)) taker.selection.files.push_back(file.path);
  if (!taker.take_weights({"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"}))
    throw Error(
        ErrorKind::bad_data,
        fmt::format("{}: has no weights that can be loaded: neither model.safetensors nor pytorch_model.bin, but {}", what, held(listing)),
        "give the id of a Hugging Face model");
  return taker.selection;
}

Selection select_adapter(const Listing& listing, const std::string& subfolder, const std::string& what) {
  Taker taker{listing, subfolder.empty() ? "" : subfolder + "/"};
  if (!taker.take("adapter_config.json"))
    throw MissingFile(fmt::format("{}: is no adapter: it has no {}adapter_config.json, but {}", what, taker.folder, held(listing)),
                      "give the id of a PEFT adapter; one that lies in a folder of its repository needs adapter_folder");
  take_text(taker);
  if (!taker.take_weights({"adapter_model.safetensors", "adapter_model.bin"}))
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: has neither {}adapter_model.safetensors nor adapter_model.bin, but {}", what, taker.folder, held(listing)),
                "give the id of a PEFT adapter");
  return taker.selection;
}

// All data of it, whatever its split: which is read, the data code decides.
Selection select_dataset(const Listing& listing, const std::string& what) {
  Selection selection;
  for (const ListedFile& file : listing.files)
    if (file.path == "README.md" || is_data(file.path)) selection.files.push_back(file.path);
  if (std::none_of(selection.files.begin(), selection.files.end(), is_data))
    throw Error(ErrorKind::bad_data, fmt::format("{}: holds no data files that are read, but {}", what, held(listing)),
                "data are read as JSON, JSONL, CSV, TSV, text, Parquet and Arrow");
  return selection;
}

}  // namespace

Selection select_files(const Listing& listing, HubKind kind, const std::string& subfolder, const std::string& what) {
  switch (kind) {
    case HubKind::model: return select_model(listing, what);
    case HubKind::adapter: return select_adapter(listing, subfolder, what);
    case HubKind::dataset: return select_dataset(listing, what);
  }
  throw Error(ErrorKind::internal, "an unknown kind of repository");
}

Need need_of(const std::string& path, HubKind kind) {
  const std::string name = path.substr(path.rfind('/') + 1);  // npos + 1: the whole
  if (kind == HubKind::dataset) return is_data(name) ? Need::always : Need::no;
  const auto is = [&](const char* text) { return name == text; };
  if (std::any_of(std::begin(kText), std::end(kText), is) || name.ends_with(".jinja")) return Need::text;
  return name == "generation_config.json" || is_licence(name) ? Need::no : Need::always;
}

std::vector<std::string> shards_of(const std::string& index_file, const std::string& index) {
  const Json json = parse_json_file(index_file);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object())
    throw Error(ErrorKind::bad_data, index_file + ": it has no object weight_map", "it names the files that the weights lie in");
  const size_t slash = index.rfind('/');
  const std::string folder = slash == index.npos ? "" : index.substr(0, slash + 1);
  std::set<std::string> names;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string() || !is_safe_path(file.get<std::string>()))
      throw Error(ErrorKind::bad_data, fmt::format("{}: weight_map names no file for {}", index_file, in_quotes(tensor)));
    names.insert(folder + file.get<std::string>());
  }
  return {names.begin(), names.end()};
}

}  // namespace loraine
