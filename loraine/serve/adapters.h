// Adapters by name: loaded and unloaded while the server runs, in memory as long as they are used, read again when they are asked for once
// more. Owned by Service; every call may come from any thread.
#pragma once
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "loraine/api/loaded_model.h"
#include "loraine/serve/metrics.h"
#include "loraine/train/objectives/value_head.h"

namespace loraine {

// An adapter with its weights. Whoever holds one may use it, whatever becomes of its name.
struct ServedAdapter {
  std::string name, hash;  // hash: SHA-256 of its files, in hexadecimal digits
  AdapterSet set;
  ChatFormat format;
  int64_t created = 0;                          // seconds since 1970
  std::optional<double> decision_temperature;   // of decision.json beside it
  std::shared_ptr<const ValueHead> value_head;  // of a reward model; nullptr: there is none
};

struct AdapterListing {
  std::string name, place, hash;
  int64_t created = 0;
  bool resident = false, pinned = false;
};

class AdapterRegistry {
 public:
  struct Limits {
    int64_t names = 1024, resident = 64;  // resident: those in memory beside the ones in use
    std::string folder;                   // adapter_dir; empty: none
  };
  // text_mutex: held alone while the tokenizer may change, shared by who encodes and decodes.
  AdapterRegistry(LoadedModel& loaded, std::shared_mutex& text_mutex, Limits limits, std::string base_name, Metrics& metrics);

  // path: of the operator, any folder or an id. Read and checked here.
  void add_given(const std::string& name, const std::string& path);
  // One that is open already, with its base: it stays as long as the server runs.
  void add_open(const std::string& name, AdapterSet set, const ChatFormat& format, const std::string& folder);
  // path: of a client, below adapter_dir. in_place: the name may be there; requests that run keep what they began with. Throws usage
  // (names, paths, what does not fit the base), bad_data.
  void load(const std::string& name, const std::string& path, bool in_place, bool pinned);
  bool unload(const std::string& name);  // false: there is none
  // With its weights, read again where they were put away; nullptr: there is none. Throws what reading throws, and usage where its files
  // are not those that were loaded.
  std::shared_ptr<const ServedAdapter> find(const std::string& name);
  bool has(const std::string& name) const;
  std::vector<AdapterListing> list() const;  // by name
  int64_t most() const { return limits_.names; }

 private:
  struct Entry {
    std::string path;
    bool of_client = false, pinned = false;
    std::string hash;
    int64_t created = 0;
    std::shared_ptr<const ServedAdapter> kept;  // while it is among the resident ones
    std::weak_ptr<const ServedAdapter> used;    // while somebody uses it
    std::list<std::string>::iterator place;     // in recent_, with kept
  };
  std::shared_ptr<ServedAdapter> read(const std::string& name, const std::string& path, bool of_client);
  void put(const std::string& name, Entry entry, std::shared_ptr<const ServedAdapter> adapter, bool in_place);
  void keep(const std::string& name, Entry& entry, std::shared_ptr<const ServedAdapter> adapter);  // with the lock held
  void forget(Entry& entry);
  void check_name(const std::string& name) const;

  LoadedModel& loaded_;
  std::shared_mutex& text_mutex_;
  const Limits limits_;
  const std::string base_name_;
  Metrics& metrics_;
  std::mutex reading_;  // one at a time: reading is bound by memory and disk
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  std::list<std::string> recent_;  // names of kept ones that are not pinned, the latest first
};

// [A-Za-z0-9._-]{1,128}
bool is_adapter_name(const std::string& name);

}  // namespace loraine
