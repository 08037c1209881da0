// Complete-or-absent checkpoint folders.
#include "loraine/train/saving/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/train/records/python_number.h"
#include "loraine/train/records/run_record.h"
#include "loraine/train/saving/transformers_checkpoint.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void io_error(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::io, fmt::format("{}: {}", path, what), "check free space and permissions");
}

// Read in pieces that are let go of, so that a model's file never counts as memory in full.
uint32_t checksum(const MappedFile& file) {
  constexpr size_t kPiece = 1u << 20;
  uLong sum = crc32_z(0, nullptr, 0);
  for (size_t at = 0; at < file.size(); at += kPiece) {
    const size_t bytes = std::min(kPiece, file.size() - at);
    sum = crc32_z(sum, file.data() + at, bytes);
    release_pages(file.data() + at, bytes);
  }
  return static_cast<uint32_t>(sum);
}

void sync_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) io_error(path, std::strerror(errno));
  const bool synced = ::fsync(fd) == 0;
  const int code = errno;
  ::close(fd);
  if (!synced) io_error(path, std::strerror(code));
}

std::string final_path(const std::string& output_dir, int64_t step) { return fmt::format("{}/checkpoint-{}", output_dir, step); }
std::string partial_path(const std::string& output_dir, int64_t step) { return fmt::format("{}/.checkpoint-{}.partial", output_dir, step); }
std::string replaced_path(const std::string& output_dir, int64_t step) {
  return fmt::format("{}/.checkpoint-{}.replaced", output_dir, step);
}
bool is_partial(const std::string& name) {
  return name.starts_with(".checkpoint-") && (name.ends_with(".partial") || name.ends_with(".replaced") || name.ends_with(".removed"));
}

bool is_begun(const std::string& name) {
  return name == "trainer_log.jsonl" || name == "completions.jsonl" || name == "pissa_init" || name == kRunRecord || name == "runs" ||
         name == "report";
}

// "checkpoint-12" → 12; nothing for another name, a sign, leading zeros or a number out of range.
std::optional<int64_t> step_of(const std::string& name) {
  constexpr std::string_view prefix = "checkpoint-";
  if (!name.starts_with(prefix) || name.size() == prefix.size() || name.size() > prefix.size() + 18) return {};
  int64_t step = 0;
  const char *first = name.data() + prefix.size(), *last = name.data() + name.size();
  if (*first < '0' || *first > '9' || (*first == '0' && last - first > 1)) return {};
  const auto [end, code] = std::from_chars(first, last, step);
  if (code != std::errc() || end != last) return {};
  return step;
}

std::vector<std::string> entries_of(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code failed;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed))
    out.push_back(it->path().filename().string());
  if (failed) io_error(folder, "cannot be listed: " + failed.message());
  std::sort(out.begin(), out.end());
  return out;
}

// Checkpoint folders by name alone, largest step first.
std::vector<Checkpoint> named_checkpoints(const std::string& output_dir) {
  std::vector<Checkpoint> out;
  std::error_code ignored;
  if (!fs::is_directory(output_dir, ignored)) return out;
  for (const std::string& name : entries_of(output_dir))
    if (const auto step = step_of(name); step && fs::is_directory(output_dir + "/" + name, ignored))
      out.push_back({output_dir + "/" + name, *step});
  std::sort(out.begin(), out.end(), [](const Checkpoint& a, const Checkpoint& b) { return a.step > b.step; });
  return out;
}

void remove_folder(const std::string& path) {
  std::error_code failed;
  fs::remove_all(path, failed);
  if (failed) io_error(path, "cannot be removed: " + failed.message());
}

// A removal that is cut off leaves nothing that looks like a checkpoint.
void remove_checkpoint(const std::string& output_dir, const Checkpoint& checkpoint) {
  const std::string removed = fmt::format("{}/.checkpoint-{}.removed", output_dir, checkpoint.step);
  remove_folder(removed);
  std::error_code failed;
  fs::rename(checkpoint.path, removed, failed);
  if (failed) io_error(checkpoint.path, "cannot be removed: " + failed.message());
  remove_folder(removed);
}

// Told apart by their marker alone: another program's folders stay.
std::vector<Checkpoint> own_checkpoints(const std::string& output_dir) {
  std::vector<Checkpoint> out = named_checkpoints(output_dir);
  std::error_code ignored;
  std::erase_if(out, [&](const Checkpoint& one) { return !fs::exists(one.path + "/" + kCheckpointMarker, ignored); });
  return out;
}

bool same_path(const std::string& a, const std::string& b) { return fs::path(a).lexically_normal() == fs::path(b).lexically_normal(); }

// Regular files below `folder`, as paths relative to it, sorted; the marker is left out.
std::vector<std::string> files_below(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code failed;
  for (fs::recursive_directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
    if (it->is_directory()) continue;
    const std::string name = it->path().lexically_relative(folder).string();
    if (name != kCheckpointMarker) out.push_back(name);
  }
  if (failed) io_error(folder, "cannot be listed: " + failed.message());
  std::sort(out.begin(), out.end());
  return out;
}

bool safe_relative(const std::string& name) {
  const fs::path path(name);
  if (name.empty() || path.is_absolute() || name.find('\0') != std::string::npos) return false;
  return std::none_of(path.begin(), path.end(), [](const fs::path& part) { return part == ".."; });
}

std::string damage_against(const std::string& folder, const Json& marker) {
  if (!marker.is_object() || !marker.contains("files") || !marker["files"].is_object()) return "its marker is not one of this program";
  for (auto it = marker["files"].begin(); it != marker["files"].end(); ++it) {
    const std::string& name = it.key();
    if (!safe_relative(name) || !it->is_object() || !it->contains("bytes") || !it->contains("crc32") ||
        !(*it)["bytes"].is_number_unsigned() || !(*it)["crc32"].is_number_unsigned())
      return "its marker is not one of this program";
    std::error_code failed;
    const std::string path = folder + "/" + name;
    if (!fs::is_regular_file(path, failed)) return name + " is missing";
    const MappedFile file(path);
    const uint64_t expected = (*it)["bytes"].get<uint64_t>();
    if (file.size() != expected) return fmt::format("{} has {} bytes, {} were written", name, file.size(), expected);
    if (checksum(file) != (*it)["crc32"].get<uint64_t>()) return name + " has changed since it was written";
  }
  return "";
}

std::string joined(const std::vector<std::string>& names, size_t most) {
  std::string out;
  for (size_t i = 0; i < std::min(most, names.size()); ++i) out += (i ? ", " : "") + names[i];
  return names.size() > most ? out + fmt::format(" and {} more", names.size() - most) : out;
}

}  // namespace

std::string begin_checkpoint(const std::string& output_dir, int64_t step) {
  const std::string path = partial_path(output_dir, step);
  remove_folder(path);
  make_folders(path);
  return path;
}

std::string finish_checkpoint(const std::string& output_dir, int64_t step) {
  const std::string partial = partial_path(output_dir, step), path = final_path(output_dir, step);
  OrderedJson files = OrderedJson::object();
  for (const std::string& name : files_below(partial)) {
    sync_file(partial + "/" + name);
    const MappedFile file(partial + "/" + name);
    files[name] = {{"bytes", file.size()}, {"crc32", checksum(file)}};
  }
  if (files.empty()) throw Error(ErrorKind::internal, fmt::format("{}: a checkpoint without files", partial), "");
  for (fs::recursive_directory_iterator it(partial), end; it != end; ++it)
    if (it->is_directory()) sync_folder(it->path().string());
  write_file(partial + "/" + kCheckpointMarker, python_json({{"format", 1}, {"step", step}, {"files", files}}, 2, false) + "\n");
  sync_folder(partial);
  std::error_code failed;
  const std::string replaced = replaced_path(output_dir, step);
  if (fs::exists(path, failed)) {  // the same step of an earlier run, or a damaged one
    remove_folder(replaced);
    fs::rename(path, replaced, failed);
    if (failed) io_error(path, "cannot be replaced: " + failed.message());
  }
  fs::rename(partial, path, failed);
  if (failed) io_error(path, "cannot get its name: " + failed.message());
  sync_folder(output_dir);
  remove_folder(replaced);
  return path;
}

void discard_checkpoint(const std::string& output_dir, int64_t step) {
  std::error_code ignored;
  fs::remove_all(partial_path(output_dir, step), ignored);
  if (!fs::exists(final_path(output_dir, step), ignored))
    fs::rename(replaced_path(output_dir, step), final_path(output_dir, step), ignored);
}

std::optional<std::string> checkpoint_damage(const std::string& folder) {
  std::error_code ignored;
  const std::string marker = folder + "/" + kCheckpointMarker;
  if (!fs::is_directory(folder, ignored)) return "it is not a folder";
  if (is_transformers_checkpoint(folder)) return transformers_checkpoint_damage(folder);
  if (!fs::is_regular_file(marker, ignored))
    return fmt::format("{} is missing: it was cut off or written by another program", kCheckpointMarker);
  try {
    const std::string damage = damage_against(folder, parse_json_file(marker));
    if (damage.empty()) return {};
    return damage;
  } catch (const Error& error) {
    if (error.kind == ErrorKind::io) throw;  // the disk's fault, not the checkpoint's: an older one would lose steps for nothing
    return error.what();
  }
}

CheckpointList find_checkpoints(const std::string& output_dir) {
  CheckpointList out;
  for (Checkpoint& checkpoint : named_checkpoints(output_dir)) {
    if (const auto damage = checkpoint_damage(checkpoint.path)) out.damaged.push_back({checkpoint.path, *damage});
    else out.complete.push_back(std::move(checkpoint));
  }
  return out;
}

void settle_output_dir(const std::string& output_dir) {
  std::error_code ignored;
  if (!fs::is_directory(output_dir, ignored)) return;
  settle_staged_files(output_dir);
  for (const std::string& name : entries_of(output_dir)) {
    const std::string path = output_dir + "/" + name;
    if (constexpr std::string_view mark = ".replaced"; is_partial(name) && name.ends_with(mark)) {  // what was to replace it did not come
      const std::string former = output_dir + "/" + name.substr(1, name.size() - 1 - mark.size());
      if (!fs::exists(former, ignored)) fs::rename(path, former, ignored);
    }
    if (is_partial(name) || (is_temporary_name(name) && fs::is_regular_file(path, ignored))) remove_folder(path);
  }
}

void remove_old_checkpoints(const std::string& output_dir, std::optional<int64_t> limit, const std::string& best, int64_t newest_step) {
  settle_output_dir(output_dir);
  if (!limit) return;
  std::vector<Checkpoint> ours = own_checkpoints(output_dir);
  std::stable_partition(ours.begin(), ours.end(), [&](const Checkpoint& c) { return c.step <= newest_step; });
  const auto is_best = [&](const Checkpoint& c) { return !best.empty() && same_path(c.path, best); };
  int64_t left = std::max<int64_t>(1, *limit);
  // The best one takes a place; the newest is always kept, so that a run can go on.
  for (size_t i = 1; i < ours.size(); ++i)
    if (is_best(ours[i]) && left > 1) --left;
  for (size_t i = 0; i < ours.size(); ++i) {
    if (i > 0 && is_best(ours[i])) continue;
    if (left-- > 0) continue;
    remove_checkpoint(output_dir, ours[i]);
  }
}

void remove_checkpoints_but(const std::string& output_dir, const std::string& kept) {
  const std::vector<Checkpoint> ours = own_checkpoints(output_dir);
  const auto is_kept = [&](const Checkpoint& c) { return same_path(c.path, kept); };
  if (std::ranges::none_of(ours, is_kept)) return;
  for (const Checkpoint& checkpoint : ours)
    if (!is_kept(checkpoint)) remove_checkpoint(output_dir, checkpoint);
}

void remove_checkpoints(const std::string& output_dir) {
  for (const Checkpoint& checkpoint : own_checkpoints(output_dir)) remove_checkpoint(output_dir, checkpoint);
}

void write_training_state(const std::string& folder, const TrainingState& state) {
  const OrderedJson json = {{"format", 1},
                            {"step", state.step},
                            {"epoch", state.epoch},
                            {"batch_in_epoch", state.batch_in_epoch},
                            {"seed", state.seed},
                            {"data_hash", state.data_hash},
                            {"loss_sum", state.loss_sum},
                            {"loss_steps", state.loss_steps},
                            {"train_seconds", state.train_seconds},
                            {"scheduler", state.scheduler},
                            {"figures", state.figures},
                            {"objective", state.objective}};
  write_file(folder + "/training_state.json", python_json(json, 2, false) + "\n");
}

TrainingState read_training_state(const std::string& folder) {
  const std::string path = folder + "/training_state.json";
  const Json json = parse_json_file(path);
  TrainingState state;
  try {
    if (json.at("format").get<int64_t>() != 1)
      throw Error(ErrorKind::bad_data, fmt::format("{}: format {}, expected 1", path, json["format"].dump()),
                  "use the program that wrote it");
    state.step = json.at("step").get<int64_t>();
    state.epoch = json.at("epoch").get<int64_t>();
    state.batch_in_epoch = json.at("batch_in_epoch").get<int64_t>();
    state.seed = json.at("seed").get<uint64_t>();
    state.data_hash = json.at("data_hash").get<std::string>();
    state.loss_sum = json.at("loss_sum").get<double>();
    state.loss_steps = json.at("loss_steps").get<int64_t>();
    state.train_seconds = json.at("train_seconds").get<double>();
    state.scheduler = json.at("scheduler").get<std::string>();
    state.figures = json.value("figures", "");  // older checkpoints have none
    state.objective = json.value("objective", "");
  } catch (const Json::exception& e) {
    throw Error(ErrorKind::bad_data, fmt::format("{}: {}", path, e.what()), "resume from another checkpoint");
  }
  if (state.step < 0 || state.epoch < 0 || state.batch_in_epoch < 0 || state.loss_steps < 0)
    throw Error(ErrorKind::bad_data, fmt::format("{}: a count below 0", path), "resume from another checkpoint");
  return state;
}

bool counts_as_nothing(const std::string& name) {
  return name == ".loraine.lock" || is_begun(name) || is_partial(name) || is_temporary_name(name) || is_staged_name(name);
}

std::optional<Checkpoint> check_output_dir(const std::string& output_dir, bool overwrite, std::vector<DamagedCheckpoint>* passed_over) {
  std::error_code failed;
  const fs::file_status status = fs::status(output_dir, failed);
  if (output_dir.empty()) throw Error(ErrorKind::usage, "output_dir is empty, expected the path of a folder", "set output_dir");
  if (status.type() == fs::file_type::not_found) return {};
  if (status.type() != fs::file_type::directory)
    throw Error(ErrorKind::usage, fmt::format("output_dir {}: it is not a folder", output_dir), "choose another output_dir");
  if (overwrite) return {};
  std::vector<std::string> names, damaged;
  const bool own = fs::exists(output_dir + "/.loraine.lock", failed);
  for (const std::string& name : entries_of(output_dir)) {
    // What a run has written before its first checkpoint: it died there.
    if (!counts_as_nothing(name) || (is_begun(name) && !own)) names.push_back(name);
  }
  if (names.empty()) return {};
  for (Checkpoint& checkpoint : named_checkpoints(output_dir)) {
    const auto damage = checkpoint_damage(checkpoint.path);
    if (!damage) return std::move(checkpoint);
    if (passed_over) passed_over->push_back({checkpoint.path, *damage});
    damaged.push_back(fmt::format("checkpoint-{}: {}", checkpoint.step, *damage));
  }
  throw Error(ErrorKind::usage,
              fmt::format("output_dir {}: it holds {}{}, expected an empty folder or one with a complete checkpoint", output_dir,
                          joined(names, 3), damaged.empty() ? std::string() : "; damaged: " + joined(damaged, 3)),
              "choose another output_dir, or set overwrite_output_dir: true");
}

}  // namespace loraine
