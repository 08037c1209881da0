// What a hub's refusals mean, and what to do about them. Called through listing.h.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "loraine/io/hub/listing.h"

namespace loraine {
namespace {

const char* noun(HubKind kind) { return kind == HubKind::dataset ? "data set" : kind == HubKind::adapter ? "adapter" : "model"; }

std::string how_to_get_a_token(const HttpClient& client) {
  return client.hub() == Hub::modelscope
             ? "set MODELSCOPE_API_TOKEN or ms_hub_token to an access token of ModelScope, or run modelscope login"
             : "make a token at " + client.endpoint() + "/settings/tokens and set HF_TOKEN or hf_hub_token to it, or run hf auth login";
}

}  // namespace

std::string words_of(const HttpClient& client, const HttpAnswer& answer) {
  std::string words = answer.header("x-error-message");
  if (words.empty()) {
    const nlohmann::json body = nlohmann::json::parse(answer.body, nullptr, false);
    if (body.is_object())
      for (const char* key : {"error", "message", "Message"})
        if (words.empty() && body.contains(key) && body[key].is_string()) words = body[key].get<std::string>();
  }
  return client.safe(words);
}

HubRefusal failed_request(const HttpClient& client, const HttpAnswer& answer, const std::string& what, const std::string& id,
                          HubKind kind) {
  const std::string host = url_host(answer.url), words = words_of(client, answer), code = answer.header("x-error-code");
  const std::string said = words.empty() ? "" : " (" + words + ")", page = page_url(client, id, kind);
  const bool own = same_origin(answer.url, client.endpoint()), with_token = own && !client.token().secret.empty();
  const std::string& revision = client.access().revision;
  if (own && code == "GatedRepo")
    return HubRefusal(
        ErrorKind::bad_data,
        fmt::format("{}: {} answers {}: access is given only to who accepts its conditions{}", what, host, answer.status, said),
        with_token ? fmt::format("accept them at {} with the account of the token ({}), and run again", page, client.token().origin)
                   : fmt::format("accept them at {}; then {}", page, how_to_get_a_token(client)));
  if (own && code == "RevisionNotFound")
    return HubRefusal(ErrorKind::bad_data, fmt::format("{}: {} has no revision {} of it", what, host, revision),
                      "give a branch, a tag or a commit as model_revision: " + page);
  if (own && code == "EntryNotFound")
    return HubRefusal(ErrorKind::bad_data, fmt::format("{}: {} has no such file at revision {}", what, host, revision), "look at " + page,
                      true);
  if (own && with_token && answer.status == 401 && words.find("Invalid credentials") != words.npos)
    return HubRefusal(ErrorKind::bad_data, fmt::format("{}: {} does not accept the token of {}{}", what, host, client.token().origin, said),
                      how_to_get_a_token(client));
  if (own && (answer.status == 401 || answer.status == 404))
    return HubRefusal(
        ErrorKind::bad_data,
        fmt::format("{}: {} answers {}: there is no such {}, or it is private and {}{}", what, host, answer.status, noun(kind),
                    with_token ? "the token of " + client.token().origin + " may not read it" : "no token was sent", said),
        "correct the id" + (with_token ? std::string(", or use a token of an account that may read it")
                                       : "; for one that is private, " + how_to_get_a_token(client)),
        true);
  if (answer.status == 403)
    return HubRefusal(ErrorKind::bad_data, fmt::format("{}: {} answers 403, access is denied{}", what, host, said),
                      own ? (with_token ? "look at " + page + " with the account of the token (" + client.token().origin + ")"
                                        : how_to_get_a_token(client))
                          : "run again: addresses of files are valid for some minutes");
  if (answer.status == 429)
    return HubRefusal(ErrorKind::io,
                      fmt::format("{}: {} answers 429, too many requests{}{}", what, host,
                                  answer.retry_after > 0 ? fmt::format("; it asks to wait {} seconds", answer.retry_after) : "", said),
                      with_token ? "wait and run again; what was loaded stays"
                                 : "wait and run again, or send a token, which may ask more often; what was loaded stays");
  if (answer.status >= 500)
    return HubRefusal(ErrorKind::io, fmt::format("{}: {} answers {}, it fails at present{}", what, host, answer.status, said),
                      "run again later; what was loaded stays");
  return HubRefusal(ErrorKind::bad_data, fmt::format("{}: {} answers {}{}", what, host, answer.status, said),
                    client.hub() == Hub::modelscope ? "is the address that of a hub? (MODELSCOPE_ENDPOINT)"
                                                    : "is the address that of a hub? (HF_ENDPOINT)");
}

}  // namespace loraine
