# Looks for what peach needs from the system. All that is missing is told in one message, with
# Debian's names for it.
find_package(PkgConfig)
set(NEEDS "")
set(NEEDED_SETS build)

# What is missing, and the packages that bring it.
macro(need what packages)
  string(APPEND NEEDS "  ${what}: apt-get install ${packages}\n")
endmacro()

# A library that pkg-config knows, as the target PkgConfig::PREFIX.
macro(need_library prefix module package)
  pkg_check_modules(${prefix} IMPORTED_TARGET ${module})
  if(NOT ${prefix}_FOUND)
    need(${module} ${package})
  endif()
endmacro()

macro(need_python)
  set(Python3_EXECUTABLE ${PEACH_PYTHON})
  find_package(Python3 COMPONENTS Interpreter Development.Module Development.Embed)
  if(NOT Python3_Interpreter_FOUND)
    need("a Python at ${PEACH_PYTHON} (-DPEACH_PYTHON=...)" "python3 libpython3-dev")
  elseif(NOT Python3_FOUND)
    need("headers and shared library of ${PEACH_PYTHON} (or -DPEACH_WITH_PYTHON=OFF)"
         libpython3-dev)
  endif()
endmacro()

# Ends the configuration if something is missing.
macro(need_nothing_more)
  if(NEEDS)
    message(FATAL_ERROR "peach needs what is not here:\n${NEEDS}"
                        "Or all at once: deploy/packages ${NEEDED_SETS}\n")
  endif()
endmacro()

if(PKG_CONFIG_FOUND)
  need_library(ZMQ libzmq>=4.3 libzmq3-dev)
  need_library(PROTOBUF_C libprotobuf-c>=1.3 libprotobuf-c-dev)
  need_library(JANSSON jansson>=2.11 libjansson-dev)
  need_library(SODIUM libsodium libsodium-dev)
  if(PEACH_TESTS STREQUAL AUTO AND NOT PEACH_FUZZ)
    pkg_check_modules(CMOCKA QUIET IMPORTED_TARGET cmocka)
  elseif(PEACH_TESTS)
    set(NEEDED_SETS "build test")
    need_library(CMOCKA cmocka libcmocka-dev)
  endif()
else()
  need(pkg-config pkg-config)
endif()
find_program(PROTOC_C protoc-c)
if(NOT PROTOC_C)
  need(protoc-c protobuf-c-compiler)
endif()
if(PEACH_WITH_PYTHON)
  need_python()
endif()
need_nothing_more()
