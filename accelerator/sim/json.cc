#include "json.h"

namespace sd {

JsonWriter& JsonWriter::Key(const std::string& key) {
  Separate();
  Quote(key);
  text_ += ':';
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::String(const std::string& value) {
  Separate();
  Quote(value);
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Raw(const std::string& value) {
  Separate();
  text_ += value;
  comma_ = true;
  return *this;
}

JsonWriter& JsonWriter::Open(char c) {
  Separate();
  text_ += c;
  comma_ = false;
  return *this;
}

JsonWriter& JsonWriter::Close(char c) {
  text_ += c;
  comma_ = true;
  return *this;
}

void JsonWriter::Separate() {
  if (comma_) text_ += ',';
}

void JsonWriter::Quote(const std::string& value) {
  static const char kHex[] = "0123456789abcdef";
  text_ += '"';
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      text_ += '\\';
      text_ += c;
    } else if (byte < 0x20) {
      text_ += "\\u00";
      text_ += kHex[byte >> 4];
      text_ += kHex[byte & 15];
    } else {
      text_ += c;
    }
  }
  text_ += '"';
}

}  // namespace sd
