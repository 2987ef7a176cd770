# Writes INPUT into the header OUTPUT as the array NAME, with a NUL behind it.
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE ${OUTPUT} "static const unsigned char ${NAME}[] = {${bytes}0};\n")
