// What a data set's name stands for: an entry of dataset_info.json, with the file and how its rows are laid out, or a path. Called by
// dataset.cpp through rows.h.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "loraine/core/error.h"
#include "loraine/core/text_position.h"
#include "loraine/data/files/load_file.h"
#include "loraine/data/rows/rows.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using OrderedJson = nlohmann::ordered_json;

OrderedJson read_json(const std::string& path) {
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed))
    throw Error(ErrorKind::usage, fmt::format("{}: no such file", path),
                "set dataset_dir to the folder that holds dataset_info.json, or give the path of a data file: dataset: ./rows.jsonl");
  std::ifstream in(path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  if (!in) throw Error(ErrorKind::io, fmt::format("{}: cannot be read", path));
  const std::string text = bytes.str();
  try {
    return OrderedJson::parse(text);
  } catch (const OrderedJson::parse_error& e) {
    const auto position = text_position(text, e.byte > 0 ? e.byte - 1 : 0);
    throw Error(ErrorKind::bad_data, fmt::format("{}, {}: not valid JSON", path, position.text()));
  } catch (const OrderedJson::out_of_range&) {
    throw Error(ErrorKind::bad_data, fmt::format("{}: it holds a number beyond 1.8e308", path));
  }
}

// Fields named in `object`; the others become empty, as LLaMA-Factory does once `columns` or `tags` is given.
void take_names(const OrderedJson& entry, const char* section, const std::string& where,
                const std::vector<std::pair<const char*, std::string*>>& fields, const std::vector<std::string>& ignored) {
  const auto found = entry.find(section);
  if (found == entry.end() || found->is_null()) return;
  if (!found->is_object()) throw Error(ErrorKind::bad_data, fmt::format("{}: `{}` is not an object", where, section));
  for (const auto& [key, target] : fields) target->clear();
  for (const auto& [key, value] : found->items()) {
    const auto field = std::find_if(fields.begin(), fields.end(), [&key = key](const auto& f) { return key == f.first; });
    if (field == fields.end()) {
      if (std::find(ignored.begin(), ignored.end(), key) != ignored.end()) continue;
      throw Error(ErrorKind::bad_data, fmt::format("{}: `{}.{}` is not known", where, section, key));
    }
    if (value.is_null()) continue;
    if (!value.is_string()) throw Error(ErrorKind::bad_data, fmt::format("{}: `{}.{}` is not a text", where, section, key));
    *field->second = value.get<std::string>();
  }
}

bool holds_entries(const std::string& folder) { return folder.starts_with('{'); }

std::string info_path(const std::string& folder) {
  return holds_entries(folder) ? "dataset_dir" : (fs::path(folder) / "dataset_info.json").string();
}

OrderedJson read_all(const std::string& folder) {
  const OrderedJson all = holds_entries(folder) ? OrderedJson::parse(folder, nullptr, false) : read_json(info_path(folder));
  if (!all.is_object()) throw Error(ErrorKind::bad_data, fmt::format("{}: not an object of data sets", info_path(folder)));
  return all;
}

[[noreturn]] void refuse_name(const OrderedJson& all, const std::string& folder, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& [key, value] : all.items()) names.push_back(key);
  if (names.size() > 20) names.resize(20);
  std::error_code failed;
  const bool lies_here = fs::exists(name, failed);
  throw Error(ErrorKind::usage, fmt::format("dataset: `{}` is not in {}", name, info_path(folder)),
              (lies_here ? fmt::format("for the file or folder of that name write ./{}; ", name) : "") +
                  fmt::format("it names: {}", fmt::join(names, ", ")));
}

bool looks_like_path(const std::string& name) { return name.find('/') != std::string::npos || file_kind(name); }

// A file or folder by its path, as it stands, else within dataset_dir; or a repository.
DatasetInfo own_data(const std::string& folder, const std::string& name, const FindRepository& find_repository) {
  std::error_code failed;
  const std::string within = (fs::path(holds_entries(folder) ? "" : folder) / name).string();
  DatasetInfo info;
  info.name = name;
  info.recognise = true;
  info.file_name = fs::exists(name, failed) ? name : within;
  if (fs::exists(info.file_name, failed)) return info;
  info.file_name = find_repository ? find_repository({name, name}) : "";
  info.from_hub = !info.file_name.empty();
  if (info.from_hub) return info;
  throw Error(
      ErrorKind::usage,
      fmt::format("dataset: {} is neither a name in {} nor a file or folder, here or in dataset_dir", name, info_path(folder)),
      fmt::format(
          "correct the path; for a data set of a hub unset HF_HUB_OFFLINE, or fetch it into the cache: hf download --repo-type dataset {}",
          name));
}

// Where an entry's rows are: a hub's repository comes first, as in LLaMA-Factory, then a folder of data in the place of a script, then a
// file.
void find_files(DatasetInfo& info, const std::function<std::string(const char*)>& text, const std::string& folder, const std::string& where,
                const FindRepository& find_repository) {
  const HubIds ids = {text("hf_hub_url"), text("ms_hub_url")};
  if (!ids.hugging_face.empty() || !ids.modelscope.empty()) {
    info.from_hub = true;
    info.file_name = find_repository ? find_repository(ids) : "";
    if (!info.file_name.empty()) return;
    throw Error(ErrorKind::usage,
                fmt::format("{}: the data set {} of a hub is not on this machine", where,
                            ids.hugging_face.empty() ? ids.modelscope : ids.hugging_face),
                "unset HF_HUB_OFFLINE, or fetch it into the cache: hf download --repo-type dataset");
  }
  if (const std::string id = text("om_hub_url"); !id.empty())
    throw Error(ErrorKind::unsupported, fmt::format("{} is the repository {} of a hub that is not asked", where, id),
                "fetch it, and give file_name instead");
  if (const std::string script = text("script_url"); !script.empty()) {
    info.from_hub = true;
    info.file_name = (fs::path(folder) / script).string();
    std::error_code failed;
    if (fs::is_directory(info.file_name, failed)) return;
    throw Error(ErrorKind::unsupported, fmt::format("{}: script_url {} is no folder of data files, and scripts are not run", where, script),
                "give the data as a file, and its name as file_name");
  }
  if (!text("cloud_file_name").empty())
    throw Error(ErrorKind::unsupported, where + ": cloud_file_name names a file elsewhere, which is not fetched",
                "download it and give file_name");
  info.file_name = text("file_name");
  if (info.file_name.empty())
    throw Error(ErrorKind::bad_data, where + " names no data: neither file_name nor a repository",
                "give file_name: the file in dataset_dir");
  if (info.split != "train")
    throw Error(ErrorKind::bad_data, fmt::format("{}: split is {}, and a file has only the split train", where, info.split),
                "leave split out");
}

DatasetInfo read_entry(const OrderedJson& entry, const std::string& folder, const std::string& name,
                       const FindRepository& find_repository) {
  const std::string where = fmt::format("{}: `{}`", info_path(folder), name);
  if (!entry.is_object()) throw Error(ErrorKind::bad_data, where + " is not an object");
  const auto text = [&](const char* key) -> std::string {
    const auto value = entry.find(key);
    if (value == entry.end() || value->is_null()) return {};
    if (!value->is_string()) throw Error(ErrorKind::bad_data, fmt::format("{}: `{}` is not a text", where, key));
    return value->get<std::string>();
  };
  DatasetInfo info;
  info.name = name;
  if (!holds_entries(folder)) info.folder = folder;
  if (const std::string split = text("split"); !split.empty()) info.split = split;
  info.subset = text("subset");
  info.inside = text("folder");
  find_files(info, text, info.folder, where, find_repository);
  const std::string formatting = text("formatting");
  if (formatting.empty() || formatting == "alpaca") info.formatting = Formatting::alpaca;
  else if (formatting == "sharegpt") info.formatting = Formatting::sharegpt;
  else if (formatting == "openai") info.formatting = Formatting::openai;
  else if (formatting == "tokenized") info.formatting = Formatting::tokenized;
  else if (formatting == "recognised") info.recognise = true;
  else
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: formatting `{}` is not one of alpaca, sharegpt, openai, tokenized, recognised", where, formatting));
  if (const auto ranking = entry.find("ranking"); ranking != entry.end() && !ranking->is_null()) {
    if (!ranking->is_boolean()) throw Error(ErrorKind::bad_data, where + ": ranking is neither true nor false");
    info.ranking = ranking->get<bool>();
  }
  if (const auto samples = entry.find("num_samples"); samples != entry.end() && !samples->is_null()) {
    if (!samples->is_number_integer() || samples->get<int64_t>() <= 0)
      throw Error(ErrorKind::bad_data, where + ": num_samples is not a positive whole number");
    info.num_samples = samples->get<int64_t>();
  }
  if (const auto weight = entry.find("weight"); weight != entry.end() && !weight->is_null()) {
    if (!weight->is_number() || !(weight->get<double>() > 0) || !(weight->get<double>() <= 1e6))
      throw Error(ErrorKind::bad_data, where + ": weight is not a number above 0");
    info.weight = weight->get<double>();
  }
  auto& c = info.columns;
  info.plain = !entry.contains("columns") || entry["columns"].is_null();
  if (info.formatting != Formatting::tokenized)
    take_names(entry, "columns", where,
               {{"prompt", &c.prompt},
                {"query", &c.query},
                {"response", &c.response},
                {"history", &c.history},
                {"messages", &c.messages},
                {"system", &c.system},
                {"tools", &c.tools},
                {"chosen", &c.chosen},
                {"rejected", &c.rejected},
                {"kto_tag", &c.kto_tag},
                {"choices", &c.choices},
                {"label", &c.label},
                {"question", &c.question}},
               {"images", "videos", "audios"});
  else take_names(entry, "columns", where, {{"input_ids", &c.input_ids}, {"labels", &c.labels}}, {});
  if (c.choices.empty()) c.choices = "choices";  // which stage decision needs
  if (c.label.empty()) c.label = "label";
  auto& t = info.tags;
  take_names(entry, "tags", where,
             {{"role_tag", &t.role},
              {"content_tag", &t.content},
              {"user_tag", &t.user},
              {"assistant_tag", &t.assistant},
              {"observation_tag", &t.observation},
              {"function_tag", &t.function},
              {"system_tag", &t.system}},
             {});
  return info;
}

}  // namespace

DatasetInfo find_dataset(const std::string& folder, const std::string& name, const FindRepository& find_repository) {
  std::error_code failed;
  if (folder == "ONLINE") {  // every name is a repository's
    DatasetInfo info;
    info.name = name;
    info.from_hub = true;
    info.recognise = true;
    info.file_name = find_repository ? find_repository({name, name}) : "";
    if (!info.file_name.empty()) return info;
    throw Error(ErrorKind::usage, fmt::format("dataset: the data set {} of a hub is not on this machine", name),
                fmt::format("unset HF_HUB_OFFLINE, or fetch it into the cache: hf download --repo-type dataset {}", name));
  }
  if (looks_like_path(name) && !holds_entries(folder) && !fs::exists(info_path(folder), failed))
    return own_data(folder, name, find_repository);
  const OrderedJson all = read_all(folder);
  if (const auto found = all.find(name); found != all.end()) return read_entry(*found, folder, name, find_repository);
  if (looks_like_path(name)) return own_data(folder, name, find_repository);
  refuse_name(all, folder, name);
}

}  // namespace loraine
