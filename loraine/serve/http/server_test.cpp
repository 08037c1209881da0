// Which bytes are a request, by the rules of the server's own parser.
#include "loraine/serve/http/server.h"

#include <gtest/gtest.h>

namespace loraine::server_test {
namespace {

std::string wrong_with(const std::string& bytes, ServerRequest* out = nullptr) {
  ServerRequest request;
  const std::string wrong = parse_http_request(bytes, {.max_body = 100, .max_head = 1000}, request);
  if (out) *out = request;
  return wrong;
}

TEST(HttpRequests, AreRead) {
  ServerRequest r;
  EXPECT_EQ(wrong_with("POST /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\nX-Key:  v \r\nContent-Length: 3\r\n\r\nabc", &r), "");
  EXPECT_EQ(r.method, "POST");
  EXPECT_EQ(r.path, "/a b");
  EXPECT_EQ(r.query, "c=%20");
  EXPECT_EQ(r.header("x-key"), "v");
  EXPECT_EQ(r.body, "abc");
  EXPECT_EQ(wrong_with("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;e=1\r\nc\r\n0\r\n\r\n", &r), "");
  EXPECT_EQ(r.body, "abc");
}

TEST(HttpRequests, AreRefused) {
  const std::string head = "POST / HTTP/1.1\r\nHost: x\r\n";
  for (const std::string& bad :
       {head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        head + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", head + "Content-Length: +1\r\n\r\na",
        head + "Content-Length: 101\r\n\r\n" + std::string(101, 'a'), head + "Content-Length: 5\r\n\r\nab",
        head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        head + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", head + "A: " + std::string(2000, 'a') + "\r\n\r\n",
        head + "a b: c\r\n\r\n", std::string("GET / HTTP/1.1\r\n\r\n"), std::string("GET a HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("GET /%0 HTTP/1.1\r\nHost: x\r\n\r\n"), std::string("GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
        std::string("GET /%0a HTTP/1.1\r\nHost: x\r\n\r\n"), std::string("hello\r\n\r\n"), std::string()})
    EXPECT_NE(wrong_with(bad), "") << bad.substr(0, 120);
}

}  // namespace
}  // namespace loraine::server_test
