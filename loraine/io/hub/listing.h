// What a repository holds: its files with size and hash, as a hub lists them or as a cache keeps that list (trees/COMMIT.json). Everything
// in it comes from outside: paths, hashes and commits are checked before anything is named after them.
#pragma once
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "loraine/io/hub/http.h"

namespace loraine {

struct ListedFile {
  std::string path;              // within the repository, with /
  std::optional<uint64_t> size;  // of mirrors that list names alone: none, and no hash
  std::string sha256, git_sha1;  // of its content; a large file has the first, and then the second is that of a pointer to it
  // The name of its blob in Hugging Face's cache.
  const std::string& hash() const { return sha256.empty() ? git_sha1 : sha256; }
};

struct Listing {
  std::string commit;  // of ModelScope: the revision as it was asked for
  std::vector<ListedFile> files;
  const ListedFile* find(const std::string& path) const;
};

// Asks the hub. Throws what failed_request says.
Listing ask_for_listing(HttpClient& client, const std::string& id, HubKind kind);

// The commit that access().revision stands for at Hugging Face's hub now, asked once, without new attempts. None where the hub is out of
// reach or refuses, with the reason in `why`; throws what failed_request says where it has no such revision any more.
std::optional<std::string> ask_for_commit(HttpClient& client, const std::string& id, HubKind kind, std::string& why);

// Size and hash of a file that a mirror's listing does not have: from a request of its own.
void complete_entry(HttpClient& client, const std::string& id, HubKind kind, const Listing& listing, ListedFile& file);

// trees/COMMIT.json below a repository's folder in the cache; none where it is absent, of a newer form or damaged.
std::optional<Listing> read_kept_listing(const std::filesystem::path& repository, const std::string& commit);
void keep_listing(const std::filesystem::path& repository, const Listing& listing);

// The same out of text, for tests: the answer of /api/models/ID/revision/REVISION. Throws bad_data, `source` names the text.
Listing parse_listing(const nlohmann::json& json, const std::string& source);
// A page of ModelScope's; `entries`: how many it has, folders too.
Listing parse_modelscope_listing(const nlohmann::json& json, const std::string& revision, const std::string& source, size_t& entries);

// The text under a key; empty where there is none, or something else.
std::string text_of(const nlohmann::json& object, const char* key);
nlohmann::json parse_answer(const HttpClient& client, const HttpAnswer& answer);  // bad_data when it is no JSON

// Addresses.
std::string file_url(const HttpClient& client, const std::string& id, HubKind kind, const std::string& commit, const std::string& path);
std::string page_url(const HttpClient& client, const std::string& id, HubKind kind);  // for people

// A relative path without empty parts, "." and "..", of letters that a file name may have.
bool is_safe_path(const std::string& path);
// A commit, or a hash: letters and digits, up to 64.
bool is_hash(const std::string& text);

// The hub's own words about a refusal, fit for a message; often none.
std::string words_of(const HttpClient& client, const HttpAnswer& answer);

// What is wrong with an answer that is no 2xx, with what to do about it. `what`: "org/name", or "org/name, config.json".
struct HubRefusal : Error {
  HubRefusal(ErrorKind kind_, const std::string& message, const std::string& hint_, bool not_there_ = false)
      : Error(kind_, message, hint_), not_there(not_there_) {}
  bool not_there;  // neither the repository, as far as is told, nor the file
};
HubRefusal failed_request(const HttpClient& client, const HttpAnswer& answer, const std::string& what, const std::string& id, HubKind kind);

}  // namespace loraine
