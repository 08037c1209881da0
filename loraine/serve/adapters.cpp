// See adapters.h.
#include "loraine/serve/adapters.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "loraine/adapters/loftq.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/hub/hash.h"
#include "loraine/io/hub/hub.h"
#include "loraine/model/attach.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/serve/folder_beneath.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/records/calibration.h"

namespace loraine {
namespace {

std::string hash_of(const std::string& folder) {
  return sha256_of_file(folder + "/adapter_config.json").substr(0, 32) + sha256_of_file(adapter_file(folder)).substr(0, 32);
}

// What a stage left beside the adapter.
void read_beside(ServedAdapter& adapter, const std::string& folder, int64_t hidden_size) {
  if (const auto calibration = read_calibration(folder)) adapter.decision_temperature = calibration->temperature;
  adapter.value_head = value_head_beside(folder, hidden_size);
}

// The words of an error with the path that the client gave in the place of the one that was opened.
Error in_clients_words(const Error& error, const std::string& opened, const std::string& given) {
  std::string text = error.what();
  for (size_t at; (at = text.find(opened)) != text.npos;) text.replace(at, opened.size(), given);
  return Error(error.kind, text, error.hint);
}

}  // namespace

bool is_adapter_name(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= 128 && std::ranges::all_of(name, fits);
}

AdapterRegistry::AdapterRegistry(LoadedModel& loaded, std::shared_mutex& text_mutex, Limits limits, std::string base_name, Metrics& metrics)
    : loaded_(loaded), text_mutex_(text_mutex), limits_(std::move(limits)), base_name_(std::move(base_name)), metrics_(metrics) {}

void AdapterRegistry::check_name(const std::string& name) const {
  if (!is_adapter_name(name))
    throw Error(ErrorKind::usage, fmt::format("the adapter name '{}' does not fit", name.substr(0, 140)),
                "1 to 128 of the characters A-Z a-z 0-9 . _ -");
  if (name == base_name_ || name == "base")
    throw Error(ErrorKind::usage, fmt::format("the name '{}' means the base model", name), "choose another");
}

std::shared_ptr<ServedAdapter> AdapterRegistry::read(const std::string& name, const std::string& path, bool of_client) {
  const std::lock_guard one_at_a_time(reading_);
  const auto start = std::chrono::steady_clock::now();
  auto adapter = std::make_shared<ServedAdapter>();
  adapter->name = name;
  adapter->created = std::time(nullptr);
  std::optional<FolderBeneath> opened;
  if (of_client) opened.emplace(limits_.folder, path);
  const std::string folder = opened ? opened->path() : path;
  try {
    adapter->hash = hash_of(folder);
    if (quantises_base(read_lora_config(folder)))
      throw Error(ErrorKind::usage, path + ": LoftQ's adapters run over a base of their own, which is quantised as at their start",
                  "serve it alone, with adapter_name_or_path, or merge it with loraine export");
    adapter->set = load_adapter(loaded_.model, folder);
    if (const std::string lacks = loaded_.gpu ? gpu_lacks(adapter->set, false) : ""; !lacks.empty())
      throw Error(ErrorKind::usage, fmt::format("the adapter '{}' has {}, which has no GPU code", name, lacks),
                  "serve it on the CPU (device: cpu)");
    check_mapped_files();
    adapter->set.name = name;
    read_beside(*adapter, folder, loaded_.model.config.hidden_size);
    const std::unique_lock alone(text_mutex_);
    adapter->format = open_adapter_format(loaded_, folder);
  } catch (const Error& error) {
    if (!opened) throw;
    throw in_clients_words(error, folder, path);
  }
  metrics_.adapter_loaded(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return adapter;
}

void AdapterRegistry::forget(Entry& entry) {
  if (entry.kept && !entry.pinned) recent_.erase(entry.place);
  entry.kept.reset();
}

void AdapterRegistry::keep(const std::string& name, Entry& entry, std::shared_ptr<const ServedAdapter> adapter) {
  forget(entry);
  entry.used = adapter;
  entry.kept = std::move(adapter);
  if (entry.pinned) return;
  recent_.push_front(name);
  entry.place = recent_.begin();
  while (static_cast<int64_t>(recent_.size()) > std::max<int64_t>(limits_.resident, 1)) {
    Entry& oldest = entries_.at(recent_.back());
    forget(oldest);
  }
}

void AdapterRegistry::put(const std::string& name, Entry entry, std::shared_ptr<const ServedAdapter> adapter, bool in_place) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found != entries_.end() && !in_place)
    throw Error(ErrorKind::usage, fmt::format("an adapter is called '{}' already", name), "unload it first, or load it in place");
  if (found == entries_.end() && static_cast<int64_t>(entries_.size()) >= limits_.names)
    throw Error(ErrorKind::usage, fmt::format("{} adapters are loaded, as many as max_loaded_adapters allows", entries_.size()),
                "unload one first");
  if (found != entries_.end()) forget(found->second);
  Entry& there = entries_[name] = std::move(entry);
  there.hash = adapter->hash;
  there.created = adapter->created;
  keep(name, there, std::move(adapter));
}

void AdapterRegistry::add_given(const std::string& name, const std::string& path) {
  check_name(name);
  const auto [place, note] = find_place(path, hub_access(loaded_.config), HubKind::adapter);
  if (!note.empty()) loaded_.places.push_back(note);
  put(name, Entry{.path = place}, read(name, place, false), false);
}

void AdapterRegistry::add_open(const std::string& name, AdapterSet set, const ChatFormat& format, const std::string& folder) {
  auto adapter = std::make_shared<ServedAdapter>();
  adapter->name = name;
  adapter->created = std::time(nullptr);
  adapter->set = std::move(set);
  adapter->set.name = name;
  adapter->format = format;
  if (!folder.empty()) read_beside(*adapter, folder, loaded_.model.config.hidden_size);
  put(name, Entry{.path = "", .pinned = true}, std::move(adapter), false);
}

void AdapterRegistry::load(const std::string& name, const std::string& path, bool in_place, bool pinned) {
  check_name(name);
  if (limits_.folder.empty())
    throw Error(ErrorKind::usage, "no adapter_dir is set, so requests cannot load adapters", "start the server with adapter_dir FOLDER");
  if (!in_place && has(name))
    throw Error(ErrorKind::usage, fmt::format("an adapter is called '{}' already", name), "unload it first, or load it in place");
  put(name, Entry{.path = path, .of_client = true, .pinned = pinned}, read(name, path, true), in_place);
}

bool AdapterRegistry::unload(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return false;
  forget(found->second);
  entries_.erase(found);
  return true;
}

bool AdapterRegistry::has(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return entries_.contains(name);
}

std::shared_ptr<const ServedAdapter> AdapterRegistry::find(const std::string& name) {
  std::string path, hash;
  bool of_client = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(name);
    if (found == entries_.end()) return nullptr;
    Entry& entry = found->second;
    std::shared_ptr<const ServedAdapter> adapter = entry.kept ? entry.kept : entry.used.lock();
    if (adapter) {
      keep(name, entry, adapter);
      return adapter;
    }
    path = entry.path, hash = entry.hash, of_client = entry.of_client;
  }
  std::shared_ptr<ServedAdapter> adapter = read(name, path, of_client);
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return nullptr;  // unloaded meanwhile
  Entry& entry = found->second;
  if (entry.hash != hash) return entry.kept ? entry.kept : entry.used.lock();  // replaced meanwhile
  if (adapter->hash != hash)
    throw Error(ErrorKind::usage, fmt::format("the files of the adapter '{}' have changed since it was loaded", name),
                "load it anew, in place");
  if (entry.kept) return entry.kept;
  adapter->created = entry.created;
  keep(name, entry, adapter);
  return adapter;
}

std::vector<AdapterListing> AdapterRegistry::list() const {
  const std::lock_guard lock(mutex_);
  std::vector<AdapterListing> all;
  for (const auto& [name, entry] : entries_)
    all.push_back({name, entry.path, entry.hash, entry.created, entry.kept != nullptr, entry.pinned});
  return all;
}

}  // namespace loraine
