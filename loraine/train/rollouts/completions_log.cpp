// See completions_log.h.
#include "loraine/train/rollouts/completions_log.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {

namespace {

using CompletionLine = nlohmann::ordered_json;

std::string log_path(const std::string& output_dir) { return output_dir + "/" + kCompletionsLog; }

}  // namespace

void log_completions(const std::string& output_dir, int64_t step, std::span<const AskedExample* const> asked,
                     std::span<const Rollout> rollouts, const std::vector<std::string>& checks, std::span<const double> advantages) {
  std::string text;
  const size_t each = rollouts.size() / asked.size();
  for (size_t i = 0; i < rollouts.size(); ++i) {
    CompletionLine line = {
        {"step", step}, {"prompt", asked[i / each]->conversation.messages.back().content}, {"completion", rollouts[i].text}};
    for (size_t check = 0; check < checks.size(); ++check) {
      const double reward = rollouts[i].rewards[check];
      line["rewards"][checks[check]] = std::isnan(reward) ? CompletionLine() : CompletionLine(reward);
    }
    line["advantage"] = advantages[i];
    text += line.dump(-1, ' ', false, CompletionLine::error_handler_t::replace) + "\n";
  }
  std::ofstream file(log_path(output_dir), std::ios::app | std::ios::binary);
  file << text << std::flush;
  if (!file) throw Error(ErrorKind::io, log_path(output_dir) + ": cannot be written", "make room, or leave log_completions out");
}

void begin_completions_log(const std::string& output_dir, std::optional<int64_t> resume_step) {
  const std::string path = log_path(output_dir);
  std::error_code failed;
  if (!std::filesystem::exists(path, failed)) return;
  if (!resume_step) {
    if (!std::filesystem::remove(path, failed))
      throw Error(ErrorKind::io, path + ": cannot remove the log of the last run: " + failed.message(), "remove it by hand");
    return;
  }
  const std::string text = read_file(path);
  std::string kept;
  for (size_t start = 0, end = 0; (end = text.find('\n', start)) != std::string::npos; start = end + 1) {
    const std::string line = text.substr(start, end - start);
    const CompletionLine entry = CompletionLine::parse(line, nullptr, false);
    if (entry.is_object() && entry.contains("step") && entry["step"].is_number_integer() && entry["step"].get<int64_t>() <= *resume_step)
      kept += line + "\n";
  }
  write_file(path, kept);
}

}  // namespace loraine
