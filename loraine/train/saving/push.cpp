#include "loraine/train/saving/push.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/records/run_record.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::string name_of_folder(const std::string& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a slash at its end
  return path.filename().string();
}

bool stays_here(const fs::path& name) {
  const std::string text = name.string();
  return text.starts_with('.') || text.starts_with('_') || text.starts_with("checkpoint-") || text == kRunRecord || is_temporary_name(text);
}

void add_files(const fs::path& folder, const std::string& within, std::vector<std::string>& files) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path name = entry.path().filename();
    if (stays_here(name)) continue;
    if (entry.is_directory()) add_files(entry.path(), within + name.string() + "/", files);
    else if (entry.is_regular_file()) files.push_back(within + name.string());
  }
}

}  // namespace

std::vector<std::string> pushed_files(const std::string& folder) {
  std::vector<std::string> files;
  try {
    add_files(folder, "", files);
  } catch (const fs::filesystem_error& error) { throw Error(ErrorKind::io, folder + ": cannot be read: " + error.code().message()); }
  std::sort(files.begin(), files.end());
  return files;
}

Push prepare_push(const TrainConfig& c, const std::string& id, const std::string& folder) {
  Push push{
      {id.empty() ? name_of_folder(folder) : id, c.hub_private_repo, c.hub_revision.value_or("main"), "Upload"}, hub_access(c), folder};
  if (c.hub_token) {
    push.access.token = *c.hub_token;
    push.access.token_key = "hub_token";
  }
  push.target.id = prepare_upload(push.target, push.access);
  return push;
}

std::string push(const Push& push) {
  try {
    const UploadResult result = upload_files(push.target, push.folder, pushed_files(push.folder), push.access);
    return result.files == 0 ? fmt::format("nothing to upload: {} has all of it", result.url)
                             : fmt::format("uploaded {} file{} to {}", result.files, result.files == 1 ? "" : "s", result.url);
  } catch (const Error& error) {
    const std::string branch = push.target.branch == "main" ? "" : " --hub_revision " + push.target.branch;
    throw Error(error.kind, fmt::format("{}; {} holds all of it, only the upload to {} failed", error.what(), push.folder, push.target.id),
                fmt::format("{}{}then upload it again: {}loraine upload {} --hub_model_id {}{}", error.hint, error.hint.empty() ? "" : "; ",
                            preferred_hub() == Hub::modelscope ? "USE_MODELSCOPE_HUB=1 " : "", push.folder, push.target.id, branch));
  }
}

}  // namespace loraine
