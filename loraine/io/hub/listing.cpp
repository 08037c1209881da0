// Listings of Hugging Face and ModelScope.
#include "loraine/io/hub/listing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostFiles = 1000000;

std::string kinds(HubKind kind) { return kind == HubKind::dataset ? "datasets" : "models"; }

[[noreturn]] void malformed_listing(const std::string& source, const std::string& what) {
  throw Error(ErrorKind::bad_data, source + ": " + what, "is the address that of a hub? (HF_ENDPOINT)");
}

std::optional<uint64_t> size_of(const Json& object, const char* key, const std::string& source) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  if (!found->is_number_integer() || (!found->is_number_unsigned() && found->get<int64_t>() < 0))
    malformed_listing(source, fmt::format("{} is no size of a file", key));
  return found->get<uint64_t>();
}

std::string hash_of(const Json& object, const char* key, size_t digits, const std::string& source) {
  const std::string text = text_of(object, key);
  if (!text.empty() && (text.size() != digits || !is_hash(text)))
    malformed_listing(source, fmt::format("{} is {}, which is no hash", key, in_quotes(text)));
  return text;
}

void add_file(Listing& listing, ListedFile file, const std::string& source) {
  if (!is_safe_path(file.path)) malformed_listing(source, "names the file " + in_quotes(file.path) + ", which cannot be one");
  if (listing.files.size() >= kMostFiles) malformed_listing(source, "names more files than can be");
  listing.files.push_back(std::move(file));
}

std::string revision_url(const HttpClient& client, const std::string& id, HubKind kind) {
  return fmt::format("{}/api/{}/{}/revision/{}", client.endpoint(), kinds(kind), url_path(id), url_part(client.access().revision));
}

Listing ask_hugging_face(HttpClient& client, const std::string& id, HubKind kind) {
  const std::string url = revision_url(client, id, kind) + "?blobs=true";
  const HttpAnswer answer = client.send({.url = url});
  if (answer.status != 200) throw failed_request(client, answer, id, id, kind);
  return parse_listing(parse_answer(client, answer), url_host(url) + ", the listing of " + id);
}

Listing ask_modelscope(HttpClient& client, const std::string& id, HubKind kind) {
  const std::string branch = client.access().revision == "main" ? "master" : client.access().revision;
  const bool dataset = kind == HubKind::dataset;
  constexpr size_t kPage = 200;
  Listing all{branch, {}};
  for (int page = 1;; ++page) {
    std::string url = fmt::format("{}/api/v1/{}/{}/{}?Revision={}&Recursive=True", client.endpoint(), kinds(kind), url_path(id),
                                  dataset ? "repo/tree" : "repo/files", url_part(branch));
    if (dataset) url += fmt::format("&PageNumber={}&PageSize={}", page, kPage);
    const HttpAnswer answer = client.send({.url = url});
    if (answer.status != 200) throw failed_request(client, answer, id, id, kind);
    size_t entries = 0;
    const Listing part = parse_modelscope_listing(parse_answer(client, answer), branch, url_host(url) + ", the listing of " + id, entries);
    all.files.insert(all.files.end(), part.files.begin(), part.files.end());
    if (!dataset || entries < kPage || all.files.size() >= kMostFiles) return all;
  }
}

std::string normal_etag(std::string etag) {
  if (etag.starts_with("W/")) etag = etag.substr(2);
  if (etag.size() >= 2 && etag.front() == '"' && etag.back() == '"') etag = etag.substr(1, etag.size() - 2);
  return etag;
}

}  // namespace

std::optional<std::string> ask_for_commit(HttpClient& client, const std::string& id, HubKind kind, std::string& why) {
  const std::string url = revision_url(client, id, kind);
  try {
    const HttpAnswer answer = client.attempt({.url = url});
    if (answer.status == 404 && answer.header("x-error-code") == "RevisionNotFound") throw failed_request(client, answer, id, id, kind);
    if (answer.status != 200) {
      why = fmt::format("{} answers {}", url_host(url), answer.status);
      return std::nullopt;
    }
    const std::string commit = text_of(parse_answer(client, answer), "sha");
    if (is_hash(commit)) return commit;
    why = url_host(url) + " names no commit";
  } catch (const ConnectionFailure& failure) { why = fmt::format("{}: {}", url_host(url), failure.reason); } catch (const HubRefusal&) {
    throw;
  } catch (const Error& error) {
    if (error.kind != ErrorKind::io && error.kind != ErrorKind::bad_data) throw;
    why = error.what();
  }
  return std::nullopt;
}

std::string text_of(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

const ListedFile* Listing::find(const std::string& path) const {
  const auto found = std::find_if(files.begin(), files.end(), [&](const ListedFile& file) { return file.path == path; });
  return found == files.end() ? nullptr : &*found;
}

bool is_safe_path(const std::string& path) {
  if (path.empty() || path.size() > 1024) return false;
  for (size_t start = 0; start <= path.size();) {
    const size_t end = std::min(path.find('/', start), path.size());
    const std::string part = path.substr(start, end - start);
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    if (std::any_of(part.begin(), part.end(), [](unsigned char c) { return c < 32 || c == 127 || c == '\\'; })) return false;
    start = end + 1;
  }
  return true;
}

bool is_hash(const std::string& text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c); });
}

Listing parse_listing(const Json& json, const std::string& source) {
  if (!json.is_object()) malformed_listing(source, "expected an object with sha and siblings");
  Listing listing{text_of(json, "sha"), {}};
  if (!is_hash(listing.commit)) malformed_listing(source, "its sha is " + in_quotes(listing.commit) + ", which is no commit");
  const auto siblings = json.find("siblings");
  if (siblings == json.end() || !siblings->is_array()) malformed_listing(source, "it has no list `siblings`");
  for (const Json& one : *siblings) {
    if (!one.is_object()) malformed_listing(source, "`siblings` holds something that is no object");
    ListedFile file{text_of(one, "rfilename"), size_of(one, "size", source), "", hash_of(one, "blobId", 40, source)};
    if (const auto lfs = one.find("lfs"); lfs != one.end() && lfs->is_object()) {
      file.sha256 = hash_of(*lfs, "sha256", 64, source);
      if (const auto size = size_of(*lfs, "size", source)) file.size = size;
    }
    add_file(listing, std::move(file), source);
  }
  return listing;
}

Listing parse_modelscope_listing(const Json& json, const std::string& revision, const std::string& source, size_t& entries) {
  Listing listing{revision, {}};
  const Json* data = json.is_object() && json.contains("Data") ? &json["Data"] : &json;
  const Json* files = data->is_object() && data->contains("Files") ? &(*data)["Files"] : data;
  if (!files->is_array()) malformed_listing(source, "it has no list `Files`");
  entries = files->size();
  for (const Json& one : *files) {
    if (!one.is_object()) malformed_listing(source, "`Files` holds something that is no object");
    if (text_of(one, "Type") == "tree") continue;
    add_file(listing, {text_of(one, "Path"), size_of(one, "Size", source), hash_of(one, "Sha256", 64, source), ""}, source);
  }
  return listing;
}

Json parse_answer(const HttpClient& client, const HttpAnswer& answer) {
  try {
    return Json::parse(answer.body);
  } catch (const Json::exception&) {
    malformed_listing(url_host(answer.url), "its answer is not JSON: " + in_quotes(client.safe(answer.body), 80));
  }
}

Listing ask_for_listing(HttpClient& client, const std::string& id, HubKind kind) {
  return client.hub() == Hub::modelscope ? ask_modelscope(client, id, kind) : ask_hugging_face(client, id, kind);
}

void complete_entry(HttpClient& client, const std::string& id, HubKind kind, const Listing& listing, ListedFile& file) {
  if (file.size && (!file.hash().empty() || client.hub() == Hub::modelscope)) return;
  const std::string what = id + ", " + file.path;
  const HttpAnswer answer = client.send({.method = "HEAD",
                                         .url = file_url(client, id, kind, listing.commit, file.path),
                                         .headers = {"Accept-Encoding: identity"},
                                         .follow_elsewhere = false});
  if (answer.status != 200 && answer.header("x-linked-etag").empty()) throw failed_request(client, answer, what, id, kind);
  const std::string linked = answer.header("x-linked-etag"), etag = normal_etag(linked.empty() ? answer.header("etag") : linked);
  const std::string linked_size = answer.header("x-linked-size"),
                    size = linked_size.empty() ? answer.header("content-length") : linked_size;
  uint64_t bytes = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), bytes);
  if (error != std::errc() || end != size.data() + size.size() || size.empty() || (etag.size() != 40 && etag.size() != 64) ||
      !is_hash(etag))
    malformed_listing(url_host(answer.url), fmt::format("{}: its answer has no size and hash (ETag) of the file", what));
  file.size = bytes;
  (etag.size() == 64 ? file.sha256 : file.git_sha1) = etag;
}

std::optional<Listing> read_kept_listing(const fs::path& repository, const std::string& commit) {
  const fs::path path = repository / "trees" / (commit + ".json");
  std::error_code failed;
  if (!fs::is_regular_file(path, failed)) return std::nullopt;
  Listing listing{commit, {}};
  try {
    const std::string source = path.string();
    const Json json = parse_json_file(source);
    if (!json.is_object() || json.value("format_version", 0) != 1 || !json.contains("files") || !json["files"].is_object())
      return std::nullopt;
    for (const auto& [name, one] : json["files"].items()) {
      if (!one.is_object()) return std::nullopt;
      ListedFile file{name, size_of(one, "size", source), hash_of(one, "lfs_sha256", 64, source), hash_of(one, "blob_id", 40, source)};
      if (const auto size = size_of(one, "lfs_size", source)) file.size = size;
      add_file(listing, std::move(file), source);
    }
  } catch (const Error&) {
    return std::nullopt;  // it is only a help
  } catch (const Json::exception&) { return std::nullopt; }
  return listing;
}

void keep_listing(const fs::path& repository, const Listing& listing) {
  Json files = Json::object();
  for (const ListedFile& file : listing.files) {
    if (!file.size || file.git_sha1.empty()) return;  // of a mirror that lists names alone
    Json& one = files[file.path] = {{"size", *file.size}, {"blob_id", file.git_sha1}};
    if (!file.sha256.empty()) one["lfs_sha256"] = file.sha256, one["lfs_size"] = *file.size;
  }
  const fs::path path = repository / "trees" / (listing.commit + ".json");
  make_folders(path.parent_path().string());
  const Json json = {{"format_version", 1}, {"files", files}};
  write_file(path.string(), json.dump(1, ' ', false, Json::error_handler_t::replace));
}

std::string file_url(const HttpClient& client, const std::string& id, HubKind kind, const std::string& commit, const std::string& path) {
  if (client.hub() == Hub::modelscope)
    return fmt::format("{}/api/v1/{}/{}/repo?Revision={}&FilePath={}", client.endpoint(), kinds(kind), url_path(id), url_part(commit),
                       url_part(path));
  return fmt::format("{}/{}{}/resolve/{}/{}", client.endpoint(), kind == HubKind::dataset ? "datasets/" : "", url_path(id),
                     url_part(commit), url_path(path));
}

std::string page_url(const HttpClient& client, const std::string& id, HubKind kind) {
  if (client.hub() == Hub::modelscope) return fmt::format("{}/{}/{}", client.endpoint(), kinds(kind), id);
  return fmt::format("{}/{}{}", client.endpoint(), kind == HubKind::dataset ? "datasets/" : "", id);
}

}  // namespace loraine
