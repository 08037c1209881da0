// See repository_files.h.
#include "loraine/data/files/repository_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/data/files/load_file.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using Names = std::vector<std::string>;

constexpr int kMostDepth = 4;

// The words that stand for a split in names.
Names words_of(const std::string& split) {
  if (split == "train") return {"train", "training"};
  if (split == "validation") return {"validation", "valid", "dev", "val"};
  if (split == "test") return {"test", "testing", "eval", "evaluation"};
  return {split};
}

// Whether one of the words stands in the path between letters that are none.
bool holds_word(const std::string& path, const Names& words) {
  const auto letter = [&](size_t at) { return at < path.size() && std::isalpha(static_cast<unsigned char>(path[at])); };
  for (const std::string& word : words)
    for (size_t at = path.find(word); at != std::string::npos; at = path.find(word, at + 1))
      if ((at == 0 || !letter(at - 1)) && !letter(at + word.size())) return true;
  return false;
}

void collect(const fs::path& folder, const fs::path& root, int depth, Names& found) {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(".") || name.starts_with("_")) continue;
    if (entry.is_directory(failed) && depth < kMostDepth) collect(entry.path(), root, depth + 1, found);
    else if (entry.is_regular_file(failed) && file_kind(name) && name != "dataset_info.json" && name != "dataset_infos.json")
      found.push_back(entry.path().lexically_relative(root).string());
  }
}

bool of_subset(const std::string& path, const std::string& subset) {
  for (const fs::path& part : fs::path(path))
    if (part == subset || part.string().starts_with(subset + ".") || part.string().starts_with(subset + "-")) return true;
  return false;
}

}  // namespace

std::vector<std::string> repository_files(const DatasetInfo& info) {
  const fs::path root = fs::path(info.file_name) / info.inside;
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}", root.string(), what), "give the path of the file or folder");
  };
  if (info.split.find_first_of("[+") != std::string::npos)
    throw Error(ErrorKind::unsupported, fmt::format("split: {} is a part of a split, which is not taken", info.split),
                "name a whole split, and set num_samples or max_samples");
  Names all, chosen;
  collect(root, root, 0, all);
  if (!info.subset.empty()) {
    std::erase_if(all, [&](const std::string& path) { return !of_subset(path, info.subset); });
    if (all.empty()) refuse(fmt::format("no data file is of the subset {}", info.subset));
  }
  for (const std::string& path : all)
    if (holds_word(path, words_of(info.split))) chosen.push_back(path);
  const auto of_another = [](const std::string& path) {
    return holds_word(path, words_of("train")) || holds_word(path, words_of("validation")) || holds_word(path, words_of("test"));
  };
  if (chosen.empty() && info.split == "train" && (all.size() == 1 || std::none_of(all.begin(), all.end(), of_another))) chosen = all;
  if (chosen.empty())
    refuse(fmt::format("of {} data files in the repository, which hold its {} data cannot be told: none is called {}…", all.size(),
                       info.split == "train" ? "training" : info.split, info.split));
  std::sort(chosen.begin(), chosen.end());
  for (std::string& path : chosen) path = (root / path).string();
  return chosen;
}

}  // namespace loraine
