# The packages, as .deb and as .rpm:
#   svm-pmu          plugin, programs, manual pages, completion
#   libvmm-host1     the library that VMMs link to host plugins themselves
#   svm-pmu-dev      ABI, guides, examples (svm-pmu-devel as .rpm)
#   svm-pmu-dbgsym   debug information of all of them (svm-pmu-debuginfo as .rpm)
#   cmake --preset package && cmake --build --preset package && cpack --preset package
# makes those for Debian; the presets "package-rpm" those for Fedora, RHEL, SUSE and their kin,
# whose folder for libraries is /usr/lib64. The presets have the prefix /usr: paths are compiled
# into the programs. The same sources give the same bytes, in whatever folder, file system, umask,
# time zone and language: tests/package/reproducible.sh builds HEAD twice and compares.
set(SVM_PMU_PACKAGE_CONTACT "svm_pmu authors <svm-pmu@packages.invalid>" CACHE STRING
    "Maintainer of the packages: name and address")
set(SVM_PMU_VCS "${PROJECT_HOMEPAGE_URL}svm-pmu.git" CACHE STRING
    "Where the sources are kept, as git clones them; the .rpm name it")
set(package_dir ${PROJECT_SOURCE_DIR}/plugin/package)
set(package_build_dir ${PROJECT_BINARY_DIR}/package)
set(package_release 1)

# ---- what belongs to each package: licence and change log
file(STRINGS LICENSE copyright_line REGEX "^Copyright ")
string(REPLACE "Copyright (c) " "" copyright_line "${copyright_line}")
file(READ LICENSE licence)
string(REGEX REPLACE "^.*\n(Permission is )" "\\1" licence "${licence}")
string(REGEX REPLACE "\n\n" "\n.\n" licence "${licence}")
string(REGEX REPLACE "\n(.)" "\n \\1" licence "${licence}")
configure_file(${package_dir}/copyright.in ${package_build_dir}/copyright @ONLY)
foreach(format IN ITEMS --rfc-email "+%a %b %d %Y") # Debian's, RPM's
  execute_process(COMMAND ${CMAKE_COMMAND} -E env LC_ALL=C
                          date --utc --date=@${PROJECT_DATE_SECONDS} ${format}
                  OUTPUT_VARIABLE package_date OUTPUT_STRIP_TRAILING_WHITESPACE
                  COMMAND_ERROR_IS_FATAL ANY)
  if(format STREQUAL --rfc-email)
    configure_file(${package_dir}/changelog.in ${package_build_dir}/changelog.Debian @ONLY)
  else()
    configure_file(${package_dir}/changelog.rpm.in ${package_build_dir}/changelog.rpm @ONLY)
  endif()
endforeach()
configure_file(CHANGELOG.md ${package_build_dir}/changelog COPYONLY)
execute_process(COMMAND ${GZIP} -9nfk changelog changelog.Debian
                WORKING_DIRECTORY ${package_build_dir} COMMAND_ERROR_IS_FATAL ANY)

set(doc_dir ${CMAKE_INSTALL_DATAROOTDIR}/doc)
if(NOT SVM_PMU_PACKAGES STREQUAL NONE)
  foreach(package_component svm-pmu:runtime libvmm-host${VMM_HOST_SOVERSION}:library
          svm-pmu-dev:devel svm-pmu-dbgsym:debug)
    string(REGEX MATCH "^(.*):(.*)$" matched ${package_component})
    install(FILES ${package_build_dir}/copyright ${package_build_dir}/changelog.gz
                  $<$<STREQUAL:${SVM_PMU_PACKAGES},DEB>:${package_build_dir}/changelog.Debian.gz>
            DESTINATION ${doc_dir}/${CMAKE_MATCH_1} COMPONENT ${CMAKE_MATCH_2})
  endforeach()
endif()
install_page(README.md ${doc_dir}/svm-pmu runtime)
install_page(plugin/MIGRATION.md ${doc_dir}/svm-pmu/plugin runtime)
install_page(host_preload/README.md ${doc_dir}/svm-pmu/host_preload runtime)

if(NOT HELP2MAN OR SVM_PMU_SANITIZE)
  return()
endif()

# ---- programs and libraries: "target|component|folder"
set(packaged_files
  "host_stub|runtime|${CMAKE_INSTALL_BINDIR}"
  "svm-pmu|runtime|${CMAKE_INSTALL_BINDIR}"
  "vmm-run|runtime|${CMAKE_INSTALL_BINDIR}"
  "svm_pmu|runtime|${VMM_PLUGIN_DIR}"
  "vmm_preload|runtime|${CMAKE_INSTALL_LIBDIR}/vmm-preload"
  "vmm_host|library|${CMAKE_INSTALL_LIBDIR}"
  "host_conformance|devel|${VMM_PLUGIN_DIR}")
set(symbols_of "")
set(packaged_targets "")
foreach(line IN LISTS packaged_files)
  string(REGEX MATCH "^(.*)\\|(.*)\\|(.*)$" matched ${line})
  list(APPEND packaged_targets ${CMAKE_MATCH_1})
  string(APPEND symbols_of " \"$<TARGET_FILE:${CMAKE_MATCH_1}>\"")
  string(APPEND sbom_${CMAKE_MATCH_2}
         "${CMAKE_INSTALL_PREFIX}/${CMAKE_MATCH_3}/$<TARGET_FILE_NAME:${CMAKE_MATCH_1}>|"
         "$<TARGET_FILE:${CMAKE_MATCH_1}>\n  ")
endforeach()

# ---- debug information: one file per program and library, found by its build id
install(CODE "include(\"${package_dir}/InstallSymbols.cmake\")
  set(CMAKE_OBJCOPY \"${CMAKE_OBJCOPY}\")
  set(CMAKE_READELF \"${CMAKE_READELF}\")
  foreach(file IN ITEMS${symbols_of})
    install_symbols(\"\${file}\" \"${package_build_dir}/symbols\")
  endforeach()" COMPONENT debug EXCLUDE_FROM_ALL)

# ---- SBOM: what of others is inside
function(compiler_file variable name)
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=${name} OUTPUT_VARIABLE file
                  OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
  set(${variable} ${file} PARENT_SCOPE)
endfunction()
compiler_file(libstdcxx libstdc++.a)
compiler_file(libgcc libgcc_eh.a)
find_package(fmt 9 REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_file(fmt_header fmt/core.h)
find_file(json_header nlohmann/json.hpp)
find_file(expected_header tl/expected.hpp)
mark_as_advanced(fmt_header json_header expected_header)
set(boost_header ${Boost_INCLUDE_DIRS}/boost/version.hpp)
set(gpl "GPL-3.0-or-later WITH GCC-exception-3.1")
set(sbom_components
  "boost|${Boost_VERSION}|BSL-1.0|boost::|${boost_header}"
  "fmt|${fmt_VERSION}|MIT|fmt::v[0-9]|${fmt_header}"
  "nlohmann-json|${nlohmann_json_VERSION}|MIT|nlohmann::|${json_header}"
  "expected|${tl-expected_VERSION}|CC0-1.0|tl::|${expected_header}"
  "libstdc++|${CMAKE_CXX_COMPILER_VERSION}|${gpl}|__cxa_throw$|${libstdcxx}"
  "libgcc|${CMAKE_CXX_COMPILER_VERSION}|${gpl}|_Unwind_RaiseException$|${libgcc}")
if(SVM_PMU_STATIC)
  list(PREPEND sbom_components
       "boost-program-options|${Boost_VERSION}|BSL-1.0|boost::program_options::|${SVM_PMU_BOOST_ARCHIVE}")
endif()
list(JOIN sbom_components "\n  " sbom_components)
foreach(package_component svm-pmu:runtime libvmm-host${VMM_HOST_SOVERSION}:library
        svm-pmu-dev:devel)
  string(REGEX MATCH "^(.*):(.*)$" matched ${package_component})
  set(package ${CMAKE_MATCH_1})
  set(component ${CMAKE_MATCH_2})
  # the processor, since packages of two architectures may be installed beside each other
  set(sbom ${package_build_dir}/${package}.${CMAKE_SYSTEM_PROCESSOR}.spdx.json)
  file(GENERATE OUTPUT ${package_build_dir}/sbom-${component}.cmake CONTENT "\
set(SBOM_OUTPUT [[${sbom}]])
set(SBOM_PACKAGE ${package})
set(SBOM_VERSION ${PROJECT_VERSION})
set(SBOM_SECONDS ${PROJECT_DATE_SECONDS})
set(SBOM_HOMEPAGE [[${PROJECT_HOMEPAGE_URL}]])
set(SBOM_NM [[${CMAKE_NM}]])
set(SBOM_READELF [[${CMAKE_READELF}]])
set(SBOM_FILES [[
  ${sbom_${component}}]])
set(SBOM_COMPONENTS [[
  ${sbom_components}]])
include([[${package_dir}/Sbom.cmake]])
")
  add_custom_command(OUTPUT ${sbom}
                     COMMAND ${CMAKE_COMMAND} -P ${package_build_dir}/sbom-${component}.cmake
                     DEPENDS ${packaged_targets} ${package_build_dir}/sbom-${component}.cmake
                             ${package_dir}/Sbom.cmake VERBATIM)
  add_custom_target(sbom_${component} ALL DEPENDS ${sbom})
  install(FILES ${sbom} DESTINATION ${doc_dir}/${package} COMPONENT ${component})
endforeach()

# ---- CPack
if(SVM_PMU_PACKAGES STREQUAL NONE)
  return()
endif()
set(CPACK_GENERATOR ${SVM_PMU_PACKAGES})
set(CPACK_PACKAGE_NAME svm-pmu)
set(CPACK_PACKAGE_VENDOR "svm_pmu authors")
set(CPACK_PACKAGE_CONTACT "${SVM_PMU_PACKAGE_CONTACT}")
set(CPACK_PACKAGE_HOMEPAGE_URL "${PROJECT_HOMEPAGE_URL}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "") # or it stands before each package's own
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_COMPONENTS_ALL runtime library devel debug)
set(CPACK_STRIP_FILES ON)
configure_file(${package_dir}/CPackSame.cmake.in ${package_build_dir}/CPackSame.cmake @ONLY)
set(CPACK_PROJECT_CONFIG_FILE ${package_build_dir}/CPackSame.cmake)
set(CPACK_PRE_BUILD_SCRIPTS ${package_build_dir}/CPackSame.cmake)
set(CPACK_POST_BUILD_SCRIPTS ${package_build_dir}/CPackSame.cmake)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE ${package_release})
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_RPM_COMPONENT_INSTALL ON)
set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
set(CPACK_RPM_PACKAGE_RELEASE ${package_release})
set(CPACK_PACKAGE_RELOCATABLE OFF)
set(CPACK_RPM_PACKAGE_AUTOREQPROV ON)
set(CPACK_RPM_COMPRESSION_TYPE xz)
set(CPACK_RPM_CHANGELOG_FILE ${package_build_dir}/changelog.rpm)
set(CPACK_RPM_SPEC_INSTALL_POST /bin/true) # the files are stripped already, the pages compressed
set(CPACK_RPM_PACKAGE_LICENSE MIT)
if(SVM_PMU_STATIC)
  set(CPACK_RPM_PACKAGE_LICENSE
      "MIT AND BSL-1.0 AND CC0-1.0 AND GPL-3.0-or-later WITH GCC-exception-3.1")
endif()
set(CPACK_RPM_SPEC_MORE_DEFINE "VCS: git:${SVM_PMU_VCS}
%define use_source_date_epoch_as_buildtime 1
%define clamp_mtime_to_source_date_epoch 1
%define _buildhost localhost
%define _build_id_links none
%global __provides_exclude_from ^.*/vmm-preload/.*$")
# folders that belong to the distribution
foreach(folder IN ITEMS ${CMAKE_INSTALL_LIBDIR}/cmake ${CMAKE_INSTALL_LIBDIR}/pkgconfig lib/debug
        lib/debug/.build-id share/bash-completion share/bash-completion/completions share/cmake
        share/man share/man/man1 share/man/man3 share/man/man7 share/zsh share/zsh/site-functions)
  list(APPEND CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION ${CMAKE_INSTALL_PREFIX}/${folder})
endforeach()

# describe(COMPONENT NAME SECTION SYNOPSIS TEXT): a package of both kinds. CPack has no variable for
# the field Multi-Arch before CMake 3.31; it can be written after the section.
set(multi_arch_same "\nMulti-Arch: same")
macro(describe component name section synopsis text)
  string(TOUPPER ${component} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION "${section}")
  set(CPACK_DEBIAN_${upper}_DESCRIPTION "${synopsis}\n${text}")
  string(REGEX REPLACE "-dev$" "-devel" rpm_name ${name})
  string(REGEX REPLACE "-dbgsym$" "-debuginfo" rpm_name ${rpm_name})
  set(CPACK_RPM_${component}_PACKAGE_NAME ${rpm_name})
  set(CPACK_RPM_${component}_PACKAGE_SUMMARY "${synopsis}")
  set(CPACK_RPM_${component}_PACKAGE_DESCRIPTION "${text}")
  set(CPACK_RPM_${component}_PACKAGE_GROUP Unspecified)
endmacro()
# What has the C++ library inside asks for glibc alone, and by old_glibc for an old one, which
# dpkg-shlibdeps does not see: it takes the version where a function moved into libc.
macro(depend_on upper others) # COMPONENT PACKAGES: what its files need, and these
  set(CPACK_DEBIAN_${upper}_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS "${others}")
  if(TARGET old_glibc)
    set(CPACK_DEBIAN_${upper}_PACKAGE_SHLIBDEPS OFF)
    list(APPEND CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS "libc6 (>= 2.17)")
    list(JOIN CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS ", " CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS)
  endif()
endmacro()
set(this_version "(= ${PROJECT_VERSION}-${package_release})")
set(library_name libvmm-host${VMM_HOST_SOVERSION})

describe(runtime svm-pmu misc "fixes for KVM's AMD vPMU, for any virtual machine monitor"
"A plugin that resets the AMD performance monitoring registers with the
virtual CPU, and can take the vPMU away from guests. The launcher vmm-run
brings plugins to unmodified virtual machine monitors such as QEMU, svm-pmu
tells an operator what a host needs and what it has, and host_stub shows what
plugins do on a simulated KVM.")
depend_on(RUNTIME "")
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SUGGESTS svm-pmu-dev)

describe(library ${library_name} "libs${multi_arch_same}"
  "plugins inside a virtual machine monitor, as a C library"
"A virtual machine monitor that links to this library loads plugins of the
VMM plugin ABI, such as svm-pmu's, and calls their hooks.")
depend_on(LIBRARY "")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SUGGESTS svm-pmu)
file(WRITE ${package_build_dir}/shlibs
     "libvmm_host ${VMM_HOST_SOVERSION} ${library_name} (>= ${PROJECT_VERSION})\n")
file(WRITE ${package_build_dir}/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA ${package_build_dir}/shlibs
                                               ${package_build_dir}/triggers)
file(WRITE ${package_build_dir}/ldconfig "/sbin/ldconfig\n")
set(CPACK_RPM_library_POST_INSTALL_SCRIPT_FILE ${package_build_dir}/ldconfig)
set(CPACK_RPM_library_POST_UNINSTALL_SCRIPT_FILE ${package_build_dir}/ldconfig)

describe(devel svm-pmu-dev "libdevel${multi_arch_same}"
  "stable C ABI for plugins of virtual machine monitors"
"The headers of the ABI, its rules, guides for authors of plugins and of hosts,
a plugin and a host in C as examples, a plugin that records what a host does
for host_stub to judge, libvmm_host to link to, and files for CMake and
pkg-config.")
depend_on(DEVEL "${library_name} ${this_version}, libc6-dev, linux-libc-dev")
set(CPACK_DEBIAN_DEVEL_PACKAGE_RECOMMENDS "svm-pmu ${this_version}")
string(REGEX REPLACE "[()]" "" rpm_version "${this_version}")
set(CPACK_RPM_devel_PACKAGE_REQUIRES "${library_name} ${rpm_version}, glibc-devel")

describe(debug svm-pmu-dbgsym "debug${multi_arch_same}"
  "debug symbols for svm-pmu"
"Line numbers and symbols of svm-pmu, ${library_name} and svm-pmu-dev, which
debuggers find by the build id of each file.")
include(CPack)
