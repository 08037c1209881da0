// The story of an upload: account, repository, branch; what is new, large contents, the commit.
#include "loraine/io/hub/upload.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/hub/listing.h"
#include "loraine/io/hub/upload_protocol.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

Hub hub_of(const HubAccess& access) { return access.hub.value_or(preferred_hub()); }

std::unique_ptr<UploadProtocol> protocol_of(HttpClient& client) {
  return client.hub() == Hub::modelscope ? modelscope_upload(client) : hugging_face_upload(client);
}

void check_token(const HttpClient& client) {
  if (!client.token().secret.empty()) return;
  const bool modelscope = client.hub() == Hub::modelscope;
  throw Error(ErrorKind::usage, fmt::format("an upload to {} needs an access token, and none is set", url_host(client.endpoint())),
              fmt::format("make one that may write at {} and set {}", token_page(client),
                          modelscope ? "MODELSCOPE_API_TOKEN or ms_hub_token to it, or run modelscope login"
                                     : "HF_TOKEN or hub_token to it, or run hf auth login"));
}

}  // namespace

std::string token_page(const HttpClient& client) {
  return client.endpoint() + (client.hub() == Hub::modelscope ? "/my/myaccesstoken" : "/settings/tokens");
}

bool is_good(const HttpAnswer& answer) { return answer.status >= 200 && answer.status < 300; }

Error refused_upload(const HttpClient& client, const HttpAnswer& answer, const std::string& id, const std::string& doing) {
  if (answer.status == 401 || answer.status == 403) {
    const std::string words = words_of(client, answer);
    return Error(
        ErrorKind::bad_data,
        fmt::format("{}: {}: {} answers {}: the token of {} may not write there{}", doing, id, url_host(answer.url), answer.status,
                    client.token().origin, words.empty() ? "" : " (" + words + ")"),
        fmt::format("make a token with the permission to write at {}, of an account that may write to {}", token_page(client), id));
  }
  return with_context(failed_request(client, answer, id, id, HubKind::model), doing);
}

Error refused_token(const HttpClient& client) {
  return Error(ErrorKind::bad_data, fmt::format("{} does not accept the token of {}", url_host(client.endpoint()), client.token().origin),
               "make one that may write at " + token_page(client));
}

std::string checked_account(const std::string& name, const HttpAnswer& answer) {
  if (!is_hub_id(name) || name.find('/') != name.npos)
    throw Error(ErrorKind::bad_data, fmt::format("{}: its answer names no account", url_host(answer.url)));
  return name;
}

std::string prepare_upload(const UploadTarget& given, const HubAccess& access) {
  UploadTarget target = given;
  if (!is_hub_id(target.id))
    throw Error(ErrorKind::usage, fmt::format("'{}' is no name of a repository to upload to", target.id),
                "give hub_model_id: org/name, or a name, of letters, digits, -, _ and .");
  if (offline())
    throw Error(ErrorKind::usage, "an upload is asked for, and HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) is set",
                "unset it, or leave push_to_hub out and upload later: loraine upload DIR");
  HttpClient client(hub_of(access), access, true);
  check_token(client);
  const auto protocol = protocol_of(client);
  const std::string user = protocol->account();
  if (target.id.find('/') == target.id.npos) target.id = user + "/" + target.id;
  protocol->make_repository(target, user);
  protocol->make_branch(target);
  return target.id;
}

UploadResult upload_files(const UploadTarget& target, const std::string& folder, const std::vector<std::string>& paths,
                          const HubAccess& given) {
  HubAccess access = given;
  access.revision = target.branch;  // what is asked about what lies there
  HttpClient client(hub_of(access), access, true);
  check_token(client);
  std::vector<UploadFile> files;
  for (const std::string& path : paths) {
    UploadFile file{path, folder + "/" + path};
    std::error_code failed;
    file.size = fs::file_size(file.place, failed);
    if (failed || !is_safe_path(path))
      throw Error(ErrorKind::io, file.place + ": cannot be uploaded" + (failed ? ": " + failed.message() : ""));
    files.push_back(std::move(file));
  }
  const auto protocol = protocol_of(client);
  protocol->look_at(target, files);
  std::erase_if(files, [](const UploadFile& file) { return file.ignored || file.there; });
  UploadResult result{page_url(client, target.id, HubKind::model), files.size(), 0};
  for (const UploadFile& file : files) result.bytes += file.size;
  if (files.empty()) return result;
  if (transfer_screen().message)
    transfer_screen().message(
        fmt::format("uploading {} file{}, {} bytes, to {}", files.size(), files.size() == 1 ? "" : "s", result.bytes, result.url));
  result.url = protocol->send(target, files);
  return result;
}

}  // namespace loraine
