// An upload in the words of one hub: what upload.cpp, which tells the story, asks of it, in that order. Both hubs take large contents apart
// from the commit that names them.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/io/hub/http.h"
#include "loraine/io/hub/upload.h"

namespace loraine {

struct UploadFile {
  std::string path, place;  // in the repository; on this disk
  uint64_t size = 0;
  bool large = false;    // its content goes apart from the commit
  bool ignored = false;  // the hub does not want it
  bool there = false;    // the branch has it in this form
  std::string sha256 = {};
};

class UploadProtocol {
 public:
  explicit UploadProtocol(HttpClient& client) : client_(client) {}
  virtual ~UploadProtocol() = default;

  virtual std::string account() = 0;  // of the token
  virtual void make_repository(const UploadTarget& target, const std::string& user) = 0;
  virtual void make_branch(const UploadTarget& target) = 0;
  virtual void look_at(const UploadTarget& target, std::vector<UploadFile>& files) = 0;  // fills what UploadFile says of each
  // Large contents, then the commit. Gives the address of what was made.
  virtual std::string send(const UploadTarget& target, const std::vector<UploadFile>& files) = 0;

 protected:
  HttpClient& client_;
};

std::unique_ptr<UploadProtocol> hugging_face_upload(HttpClient& client);
std::unique_ptr<UploadProtocol> modelscope_upload(HttpClient& client);

// What both say.
std::string token_page(const HttpClient& client);  // where its people make tokens
bool is_good(const HttpAnswer& answer);            // 2xx
Error refused_upload(const HttpClient& client, const HttpAnswer& answer, const std::string& id, const std::string& doing);
Error refused_token(const HttpClient& client);
std::string checked_account(const std::string& name, const HttpAnswer& answer);

}  // namespace loraine
